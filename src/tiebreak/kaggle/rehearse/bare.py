"""A program of its own: runs a command and leaves none of its processes behind, where there are no namespaces.

It is started by path (`python -I bare.py COMMAND...`). On Linux every orphan below it becomes its child, so it can end
them all when the command ends, when it is told to stop, and when its own parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PDEATHSIG, _CHILD_SUBREAPER = 1, 36
_LINUX: Final = sys.platform == "linux"


def main(command: list[str]) -> int:
    """Run it, and give its exit code."""
    if _LINUX:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started = os.fork()
    if started == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execv(command[0], command)  # noqa: S606
    try:
        while True:
            pid, status = os.wait()
            if pid == started:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_all()


def _end_all() -> None:
    """Children, and then the grandchildren that have become children, until there are none."""
    while _LINUX and (children := list(_children())):
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def _children() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            yield int(entry.parent.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
