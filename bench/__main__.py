"""Run the benchmarks: `python -m bench --data ../shared/data [--only speed --only start]`.

Each module has `run(data) -> dict` with `targets`: name -> {value, target, unit, met}. Results go to
`bench/results/NAME.json` together with the hardware and the versions they were measured with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path

from bench.machine import describe

NAMES = ("start", "speed", "quality", "calibration", "memory", "cascade", "kaggle")
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the chosen benchmarks, print a line for each target, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the shared vote sets")
    parser.add_argument("--only", action="append", choices=NAMES, help="run this one only; repeatable")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.stderr.write(f"{options.data} is not there: the benchmarks need real votes\n")
        return 3
    RESULTS.mkdir(exist_ok=True)
    missed = 0
    for name in options.only or NAMES:
        started = time.perf_counter()
        result = import_module(f"bench.{name}").run(options.data)
        result |= {"seconds": round(time.perf_counter() - started, 1), **describe()}
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        for target, row in result["targets"].items():
            missed += not row["met"]
            verdict = "met" if row["met"] else "MISSED"
            print(f"{name:12} {target:52} {row['value']:>10} {row['unit']:8} target {row['target']:<10} {verdict}")
    return 6 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
