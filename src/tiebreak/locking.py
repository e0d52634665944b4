"""A lock that its holder cannot forget to release: the kernel lets go of it when the process ends, however it ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, Final

try:
    import fcntl
except ImportError:  # no such lock on this system: two runs at once are then the user's own care
    fcntl = None  # type: ignore[assignment]


ATTEMPTS: Final = 20
PAUSE: Final = 0.05


def hold(path: Path) -> IO[str] | None:
    """Take the lock and hold it until the file is closed; None if another process holds it."""
    stream = path.open("a+", encoding="utf-8")
    for _ in range(ATTEMPTS):  # an orphaned worker that looks whether its driver lives touches the lock for a moment
        if fcntl is None or _taken(stream, exclusive=True):
            return stream
        time.sleep(PAUSE)
    stream.close()
    return None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        with path.open("r+", encoding="utf-8") as stream:
            return fcntl is None or not _taken(stream, exclusive=False)
    except OSError:
        return False


def _taken(stream: IO[str], *, exclusive: bool) -> bool:
    try:
        fcntl.flock(stream, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
