"""GPUs of this machine, lent to one job at a time: two trainings side by side must not meet on one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tiebreak import locking
from tiebreak.flow.place import Place

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_PERIOD: Final = 0.5


def devices() -> list[str]:
    """The NVIDIA GPUs of this machine that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return [word.strip() for word in visible.split(",") if word.strip() not in {"", "-1"}]
    return sorted((path.name[6:] for path in Path("/dev").glob("nvidia[0-9]*")), key=int)


@contextmanager
def leased(where: Place, count: int) -> Iterator[list[str]]:
    """Hold so many GPUs, and wait for them while other jobs of this folder have them; none for a count of 0."""
    with ExitStack() as held:
        chosen: list[str] = []
        while len(chosen) < count:
            for name in devices():
                if name in chosen or len(chosen) == count:
                    continue
                lock = locking.hold(where.root / "locks" / f"gpu-{name}")
                if lock is not None:
                    held.enter_context(lock)
                    chosen.append(name)
            if len(chosen) < count:
                time.sleep(_PERIOD)
        yield chosen
