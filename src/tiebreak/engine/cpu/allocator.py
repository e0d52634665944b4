"""Memory that goes back to the system after every operation is paid for again, page by page, in the next one."""

from __future__ import annotations

import ctypes
from typing import Final

TRIM_THRESHOLD: Final = -1
TOP_PAD: Final = -2
MMAP_THRESHOLD: Final = -3
"""Names of `mallopt(3)`."""

KEPT: Final = 1 << 30
"""Blocks below this many bytes come from the heap, and the heap keeps as many free bytes."""
AHEAD: Final = 64 << 20
"""Bytes by which the heap grows at least."""


def settle_allocator() -> bool:
    """Have glibc keep the memory of large tensors instead of giving it back after each operation.

    Affects the whole process, from now on. Freed memory stays with the process, at most `KEPT` bytes of it.

    Returns:
        Whether it was done: False on a system without glibc's `mallopt`, where nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    settings = ((MMAP_THRESHOLD, KEPT), (TRIM_THRESHOLD, KEPT), (TOP_PAD, AHEAD))
    return all([mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings])
