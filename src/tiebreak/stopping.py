"""Stopping in good order: what a command does about SIGTERM and Ctrl-C."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, Final, Self

BOTH: Final = (signal.SIGTERM, signal.SIGINT)
_LOOK: Final = 0.2
"""Seconds after which a wait looks whether it was interrupted."""


class Stopper:
    """Keeps the request in mind until whoever works looks; a second Ctrl-C interrupts at once.

    Does nothing outside the main thread.

    Attributes:
        asked: Whether a stop was asked for.
    """

    def __init__(self, signals: Sequence[signal.Signals] = BOTH) -> None:
        self.asked = False
        self._signals = signals
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._signals}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def arriving(stream: IO[str]) -> Iterator[str]:
    """The lines of a child process as they come.

    A signal that comes just before a read begins is not heard of until the read ends, which may be never. So a thread
    reads, and whoever waits for its lines looks up now and then.
    """
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for line in stream:
                lines.put(line)
        except ValueError:
            if not stream.closed:  # else nobody waits any longer
                raise
        finally:
            lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=_LOOK)
        except queue.Empty:
            continue
        if line is None:
            return
        yield line


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: what it started is ended, what it laid out is removed."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
