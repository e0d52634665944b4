"""A run of the notebook: started in its sandbox, listened to, and ended when it takes too much or too long."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Final

from tiebreak.kaggle.rehearse import memory
from tiebreak.kaggle.rehearse.script import MARK, Line

_STAMPED: Final = re.compile(r"^\[ *[\d.]+ s\] ")
_TICK: Final = 0.25


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: Exit code; above 128 the number of a signal more.
        cell: Position of the cell that it was in.
        lines: All that it printed.
        seconds: That it took.
        meter: Its memory over time.
        why: Why it was ended from here: too much memory, or too long; empty: it ended by itself.
    """

    code: int
    cell: int
    lines: list[Line]
    seconds: float
    meter: memory.Meter
    why: str


def follow(process: subprocess.Popen[bytes], *, most: float, seconds: float, hear: Callable[[Line], None]) -> Ended:
    """Read what a process prints until it ends, and end it with all that it started if it goes too far.

    Args:
        process: Whose output is a pipe.
        most: Bytes of memory that it and its descendants may hold.
        seconds: That it may take.
        hear: Told each line as it comes.
    """
    began = time.monotonic()
    meter = memory.Meter(process.pid, _TICK)
    reader = _Reader(hear, began)
    why = ""
    try:
        for block in _blocks(process):
            reader.feed(block)
            if why := _too_much(meter.sample(), most, time.monotonic() - began, seconds):
                end(process)
                break
    except BaseException:
        end(process)
        raise
    code = process.wait()
    reader.feed(b"\n" if reader.rest else b"")
    return Ended(code if code >= 0 else 128 - code, reader.cell, reader.lines, time.monotonic() - began, meter, why)


def _blocks(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What a process prints, as it comes; nothing, again and again, while it is silent; an end when it ends."""
    pipe: IO[bytes] = process.stdout  # type: ignore[assignment]
    os.set_blocking(pipe.fileno(), False)
    with pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            block = pipe.read() if selector.select(_TICK) else None
            if block == b"":
                break  # closed
            yield block or b""
    while process.poll() is None:
        time.sleep(_TICK)
        yield b""


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything below it."""
    for _ in range(20):
        below = [pid for pid in memory.tree(process.pid) if pid != process.pid] if sys.platform == "linux" else []
        for pid in below:
            _kill(pid)
        if not below:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _too_much(held: int, most: float, taken: float, seconds: float) -> str:
    if held > most:
        return (
            f"it held {held / memory.GIB:.2f} GiB of memory after {taken:.0f} s, more than {most / memory.GIB:.2f} GiB"
        )
    return f"it was still at work after {taken / 3600:.2f} hours" if taken > seconds else ""


class _Reader:
    """Bytes into lines with their time and their cell."""

    def __init__(self, hear: Callable[[Line], None], began: float) -> None:
        self.lines: list[Line] = []
        self.rest = b""
        self.cell = -1
        self._hear = hear
        self._began = began

    def feed(self, block: bytes) -> None:
        *whole, self.rest = (self.rest + block).split(b"\n")
        for raw in whole:
            text = raw.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
            if text.startswith(MARK):
                self.cell = int(text.removeprefix(MARK))
                continue
            line = Line(time.monotonic() - self._began, self.cell, text)
            self.lines.append(line)
            self._hear(line)


def stamped(line: Line) -> str:
    """A line of the log: with its time, unless the notebook wrote that itself."""
    return line.text if _STAMPED.match(line.text) else f"[{line.seconds:8.1f} s] {line.text}"
