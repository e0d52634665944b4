"""OpenVINO as a peer, in a process of its own: `python encoders_openvino.py MODEL IDS`, with openvino and transformers.

Speaks the protocol of `bench.llm.encoders`: a name a line on standard input, a line of JSON back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino
import torch
from transformers import AutoModelForSequenceClassification

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench.llm.turns import serve

LATENCY = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "2"}
STREAMS = {"INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": "2", "INFERENCE_NUM_THREADS": "2"}


class Logits(torch.nn.Module):
    """Token ids of equally long rows to logits: no mask."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa").eval()

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(rows, length) to (rows, 3)."""
        logits: torch.Tensor = self.model(input_ids=input_ids).logits
        return logits


def peers(folder: Path, rows: list[np.ndarray]) -> dict[str, Callable[[], np.ndarray]]:
    """The ways to run it, by name."""
    graph = openvino.convert_model(Logits(folder), example_input=torch.ones(1, 16, dtype=torch.int64))
    graph.reshape({0: openvino.PartialShape([-1, -1])})
    core = openvino.Core()
    alone, streams = core.compile_model(graph, "CPU", LATENCY), core.compile_model(graph, "CPU", STREAMS)
    request = alone.create_infer_request()
    order = np.argsort([-len(row) for row in rows], kind="stable")

    def one_at_a_time() -> np.ndarray:
        return np.concatenate([request.infer({0: row[None]})[0].copy() for row in rows])

    def tuned() -> np.ndarray:
        out = np.empty((len(rows), 3), dtype=np.float32)
        queue = openvino.AsyncInferQueue(streams, 2)
        queue.set_callback(lambda done, at: out.__setitem__(at, done.get_output_tensor(0).data[0]))
        for at in order:
            queue.start_async({0: rows[at][None]}, int(at))
        queue.wait_all()
        return out

    return {"OpenVINO bf16, one row at a time": one_at_a_time, "OpenVINO bf16, 2 streams, longest first": tuned}


if __name__ == "__main__":
    packed = np.load(sys.argv[2])
    split = np.split(packed["ids"], np.cumsum(packed["lengths"])[:-1])
    serve(peers(Path(sys.argv[1]), split), versions={"openvino": version("openvino")})
