"""No process outlives what it works for: a job dies with its `flow run`, a command with its job, however those end."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

from tiebreak import locking

RUN: Final = "TIEBREAK_FLOW_RUN"
"""Environment variable with the name of the run that a job belongs to; not set for jobs of a cluster."""

PATIENCE: Final = 60.0
"""Seconds that a command has to save its work before it is killed."""

_PERIOD: Final = 0.5
_PR_SET_PDEATHSIG: Final = 1


def dying_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """For `Popen(preexec_fn=...)`: the kernel sends this signal when the parent has ended. None where it cannot."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: nothing may be loaded after it
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it ended in between
            os.kill(os.getpid(), number)

    return arrange


def claim(path: Path, run: str) -> IO[str] | None:
    """Take the lock of a flow and write the name of the run into it; None if another run holds it."""
    held = locking.hold(path)
    if held is not None:
        name(held, run)
    return held


def name(held: IO[str], run: str) -> None:
    """Write the name of the run into the lock. Without a name, jobs that are under way stop."""
    held.seek(0)
    held.truncate()
    held.write(run)
    held.flush()


def is_wanted(path: Path, run: str) -> bool:
    """Whether the run that a job belongs to is alive and wants it."""
    try:
        return path.read_text(encoding="utf-8") == run and locking.is_held(path)
    except OSError:
        return False


class Relay:
    """Hands a request to stop on to the command, also one that came before the command was there."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Relay:
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._hand_on)
        # Ctrl-C reaches the command by itself: it is in the same group. (Ignored outright, it would be by both.)
        self._before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda number, frame: None)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """Say which command."""
        self._process = process
        if self._asked:
            process.terminate()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._process is not None:
            self._process.terminate()


class Watch:
    """While a command runs: stop it once nobody wants it any more. Does nothing for jobs of a cluster.

    Attributes:
        stopped: Whether it was stopped.
    """

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self._path = path
        self._process = process
        self._run = os.environ.get(RUN, "")
        self.stopped = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        if self._run:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(_PERIOD):
            if not is_wanted(self._path, self._run):
                self.stopped = True
                self._process.terminate()
                if not self._over.wait(PATIENCE):
                    self._process.kill()
                return
