"""How fast it starts and how small it is: import, help, wheel, bundle, core install."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import target, tiebreak, timed

ROOT = Path(__file__).parents[1]
RUNS = 5


def run(data: Path) -> dict[str, Any]:
    """Times are medians of five processes; the bare interpreter is timed beside them as the peer."""
    seconds = {
        name: median(timed(*command)["seconds"] for _ in range(RUNS))
        for name, command in {
            "python": (sys.executable, "-c", "pass"),
            "import": (sys.executable, "-c", "import tiebreak"),
            "help": tiebreak("--help"),
            "compare": tiebreak("compare", "--prompt", "2 + 2?", "--a", "4", "--b", "5"),
        }.items()
    }
    weights = sum(path.stat().st_size for path in (ROOT / "src/tiebreak/weights").rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        wheel, installed = _install(Path(folder))
    return {
        "seconds_by_process": seconds,
        "targets": {
            "import tiebreak (over the bare interpreter)": target(seconds["import"] - seconds["python"], 0.2, "s"),
            "tiebreak --help, whole process": target(seconds["help"], 0.5, "s"),
            "wheel": target(wheel / 1e6, 5, "MB"),
            "embedded bundle": target(weights / 1e6, 3, "MB"),
            "core install, without pip itself": target(installed / 1e6, 400, "MB"),
        },
    }


def _install(folder: Path) -> tuple[int, int]:
    """Build the wheel and install it into an empty environment; bytes of the wheel and of what it brought."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    wheel = next(folder.glob("*.whl"))
    site = folder / "site"
    subprocess.run([*pip, "install", "--target", site, wheel], check=True)
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and not path.is_symlink())
    return wheel.stat().st_size, size
