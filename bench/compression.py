"""Five ways to fewer bits on SmolLM2-135M as a judge: what each costs in log-loss, bytes, speed and time.

`TIEBREAK_QUANTIZE_PYTHON=.venv-quantize/bin/python python -m bench.compression`; votes as the tests take them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from bench import machine
from tiebreak.compress.methods import METHODS
from tiebreak.compress.parity import LIMIT
from tiebreak.compress.run import compress
from tiebreak.compress.task import Task

ROOT = Path(__file__).parents[1]
FIT, CALIBRATION, VALIDATION = 300, 128, 200


def judge_and_votes(folder: Path) -> None:
    """The judge of the tests: SmolLM2 as it is, with a head fitted on its states."""
    sys.path.insert(0, str(ROOT / "tests"))
    import compress_judge

    compress_judge.save(folder, FIT, CALIBRATION, VALIDATION)


def run(folder: Path, rows: int, methods: list[str]) -> dict[str, Any]:
    """Print a line a method; return every figure."""
    calibration, validation = (pl.read_parquet(folder / f"{name}.parquet") for name in ("calibration", "validation"))
    found: dict[str, Any] = {}
    for name in methods:
        started = time.perf_counter()
        done = compress(Task(folder / "judge", name, calibration, validation, folder / name, rows=rows, force=True))
        seconds = time.perf_counter() - started
        found[name] = {**done.document, "seconds": round(seconds, 1), "gate": machine.target(
            done.document["log_loss_change"][0], LIMIT, "nats")}  # fmt: skip
        size = done.document["bytes"]
        print(
            f"{name:7} change {done.parity.change}  KL {done.parity.kl}  verdicts {done.parity.verdict_changes}"
            f"  {size['compressed'] / size['original']:.1%} of the bytes  {seconds:.0f} s"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=CALIBRATION, help="calibration rows")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "compression.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        judge_and_votes(Path(folder))
        figures = run(Path(folder), asked.rows, asked.methods)
    described = machine.describe()
    described["versions"] |= {name: version(name) for name in ("torch", "transformers", "bitsandbytes")}
    document = {**described, "model": "SmolLM2-135M", "methods": figures}
    asked.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
