"""The hardware and the versions that a figure was measured with, and processes measured from outside."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("tiebreak", "polars", "numpy", "lightgbm", "scikit-learn", "matplotlib")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system, versions. No host name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "hardware": {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(),
                     "memory_gib": round(gigabytes, 1)},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "system": platform.system(),
    }  # fmt: skip


def timed(*command: str | Path, cwd: Path | None = None) -> dict[str, float]:
    """Run one process; give wall seconds and its peak memory in MiB, both as the operating system counted them."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{errors}")
    return {"seconds": round(seconds, 3), "peak_mib": round(usage.ru_maxrss / 1024, 1)}


def tiebreak(*arguments: str | Path) -> tuple[str | Path, ...]:
    """The command line as a command."""
    return (sys.executable, "-m", "tiebreak", *arguments)


def target(value: float, limit: float, unit: str, *, at_least: bool = False) -> dict[str, Any]:
    """One line of a benchmark: the figure, what it should be, whether it is."""
    met = value >= limit if at_least else value <= limit
    return {
        "value": round(value, 4),
        "target": f"{'>=' if at_least else '<='} {limit:g}",
        "unit": unit,
        "met": bool(met),
    }
