"""From a judge to a submission, offline: `python -m bench --data ../shared/data --only kaggle`.

The pack of the embedded judge, with an empty cache (all wheels are downloaded) and again; then its notebook, from
nothing: a Python environment is made, the wheels are checked and installed, without network, from a read-only input.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.machine import target, tiebreak

COMPETITION = "llm-classification-finetuning"
ROWS = 25_000


def run(data: Path) -> dict[str, Any]:
    """Pack, run on the public test of three rows, run on 25,000 rows drawn from real ones."""
    with tempfile.TemporaryDirectory() as folder:
        pack, cache = Path(folder) / "out", Path(folder) / "cache"
        packed = packing(pack, cache)
        megabytes = sum(file.stat().st_size for file in (pack / "wheels").iterdir()) / 1e6
        three = rehearsed(pack, Path(folder) / "three", "--test", data / "raw" / "kaggle_test.csv")
        train = data / "raw" / "kaggle_train_first_1000.csv"
        many = rehearsed(pack, Path(folder) / "many", "--test", train, "--rows", ROWS)
        again = packing(Path(folder) / "again", cache)
        alike = same_bytes(pack, Path(folder) / "again")
    return {
        "pack": {"seconds": packed, "again_seconds": again, "megabytes": round(megabytes, 2), "same_bytes": alike},
        "three_rows": three,
        "many_rows": many,
        "targets": {
            "pack of the embedded judge": target(packed, 60, "s"),
            "its dataset of wheels": target(megabytes, 80, "MB"),
            "notebook on the 3-row test, from nothing": target(three["seconds"], 60, "s"),
            f"notebook on {ROWS:,} rows, from nothing": target(many["seconds"], 300, "s"),
        },
    }


def rehearsed(pack: Path, output: Path, *options: str | int | Path) -> dict[str, Any]:
    """One run of the notebook: its stages, its memory, what the walls were."""
    said = json.loads(call("kaggle", "run", pack, "-o", output, "--json", *options))
    kept = ("rows", "rows_otherwise", "seconds", "stages", "peak_bytes", "isolation", "connection_outside")
    return {name: said[name] for name in kept}


def packing(output: Path, cache: Path) -> float:
    """Seconds of one pack of the embedded judge."""
    began = time.perf_counter()
    call("kaggle", "pack", "--competition", COMPETITION, "--user", "someone", "-o", output, TIEBREAK_CACHE=cache)
    return round(time.perf_counter() - began, 2)


def same_bytes(pack: Path, other: Path) -> bool:
    """Whether two packs hold the same files with the same bytes."""
    files = sorted(path.relative_to(pack) for path in pack.rglob("*") if path.is_file())
    return all((pack / name).read_bytes() == (other / name).read_bytes() for name in files)


def call(*arguments: str | int | Path, **environment: Path) -> str:
    """Run the command line; what it prints."""
    variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    done = subprocess.run(tiebreak(*map(str, arguments)), env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return done.stdout
