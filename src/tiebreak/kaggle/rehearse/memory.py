"""How much memory a process and all that it started hold, sampled while they run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

GIB: Final = 2**30
_PROC: Final = Path("/proc")


class Meter:
    """Samples of the memory of a process tree.

    Shared pages are shared out between the processes that hold them (PSS), so that four workers with one model do not
    count it four times; where a process does not let itself be read so, its resident pages are counted.

    Attributes:
        series: Seconds since the meter was made, and bytes.
        peak: The most bytes that were seen.
    """

    def __init__(self, root: int, every: float = 0.25) -> None:
        self.series: list[tuple[float, int]] = []
        self.peak = 0
        self._root = root
        self._every = every
        self._started = time.monotonic()
        self._next = 0.0

    def sample(self) -> int:
        """What is held now, in bytes; asked too soon after the last time, what was held then."""
        seconds = time.monotonic() - self._started
        if seconds < self._next:
            return self.series[-1][1] if self.series else 0
        held = sum(map(_held, tree(self._root))) if sys.platform == "linux" else _held_by_ps(self._root)
        self._next = time.monotonic() - self._started + self._every
        self.series.append((seconds, held))
        self.peak = max(self.peak, held)
        return held


def of_this_machine() -> int:
    """The bytes of memory that this machine has, or that its container may use where that is told."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return total


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it has ended
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    return _below(root, parents)


def _below(root: int, children: dict[int, list[int]]) -> list[int]:
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _held(pid: int) -> int:
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        pages = (_PROC / str(pid) / "statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _held_by_ps(root: int) -> int:
    """Resident memory, where there is no /proc."""
    said = subprocess.run(["ps", "-axo", "pid=,ppid=,rss="], capture_output=True, text=True, check=False).stdout
    rows = [(int(pid), int(parent), int(kib)) for pid, parent, kib in map(str.split, said.splitlines())]
    children: dict[int, list[int]] = {}
    for pid, parent, _ in rows:
        children.setdefault(parent, []).append(pid)
    wanted = set(_below(root, children))
    return sum(kib * 1024 for pid, _, kib in rows if pid in wanted)


def at(series: Iterable[tuple[float, int]], start: float, end: float) -> int:
    """The most bytes held between two moments, in seconds."""
    return max((held for seconds, held in series if start <= seconds <= end), default=0)
