"""How long work tells of itself: a library does not print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def _nothing(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    yield lambda step: None


@dataclass(frozen=True)
class Listener:
    """Who is told.

    Attributes:
        say: Takes one message.
        progress: Takes the name of some work, how much of it there is, and the unit; gives a context with a function
            that is called with how much more was done.
    """

    say: Callable[[str], None] = lambda text: None
    progress: Progress = _nothing


SILENT: Final = Listener()
