"""Which sequences go together: micro-batches that fill a token budget."""

from __future__ import annotations

from typing import Final

import numpy as np

from tiebreak.errors import UsageError

WINDOW: Final = 1024
"""How many sequences are looked at together: enough to fill nearly every batch, few enough to keep results flowing."""


def microbatches(lengths: np.ndarray, max_tokens: int, *, window: int = WINDOW) -> list[np.ndarray]:
    """Fill micro-batches under a token budget: longest processing time first, inside a look-ahead window.

    Within a window the longest sequence is placed first, each into the fullest batch that still has room (best fit),
    so that batches come out nearly equal; at most one batch of a window can be under half full.

    Args:
        lengths: Tokens of each sequence (n,).
        max_tokens: Tokens of a batch at most; a longer sequence stands alone.
        window: How many sequences are looked at together.

    Returns:
        Index arrays; every index in exactly one of them.

    Raises:
        UsageError: The budget or the window is not positive.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if max_tokens < 1 or window < 1:
        raise UsageError(f"a budget of {max_tokens} tokens, a window of {window} sequences", expected="both at least 1")
    batches: list[np.ndarray] = []
    for start in range(0, len(lengths), window):
        batches += [np.array(batch) + start for batch in _fill(lengths[start : start + window], max_tokens)]
    return batches


def _fill(lengths: np.ndarray, max_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    room = np.zeros(len(lengths), dtype=np.int64)
    for index in np.argsort(-lengths, kind="stable"):
        spare = room[: len(batches)] - lengths[index]
        fits = np.flatnonzero(spare >= 0)
        if len(fits):
            at = int(fits[np.argmin(spare[fits])])
        else:
            at = len(batches)
            batches.append([])
            room[at] = max_tokens
        batches[at].append(int(index))
        room[at] -= lengths[index]
    return batches
