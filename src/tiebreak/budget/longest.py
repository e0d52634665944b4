"""The longest input that fits the hours and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tiebreak.budget.estimate import Estimate, Run, estimate

STEP: Final = 64
"""Lengths are looked at in steps of so many tokens."""

LONGEST: Final = 32_768
"""Where neither the model's window nor the comparisons end before."""

LENGTHS: Final = (256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
"""Of the curve."""


@dataclass(frozen=True)
class Fit:
    """The longest input that fits.

    Attributes:
        max_length: In tokens; None where not even the shortest fits.
        estimate: At this length, or at the shortest.
        bound: What forbids a longer one: hours, memory, window (the model reads no more), rows (none is longer).
    """

    max_length: int | None
    estimate: Estimate
    bound: str


def longest(run: Run, hours: float) -> Fit:
    """The largest multiple of `STEP` that fits: by bisection, since both time and memory grow with it."""
    window, rows = run.model.window or LONGEST, float(run.lengths.tokens.max())
    end = min(window, LONGEST, -(-int(rows) // STEP) * STEP)
    most = max(STEP, end // STEP * STEP)
    if not _bound(found := estimate(run.at(most)), hours):
        return Fit(most, found, "window" if window < rows else "rows")
    low, high = 0, most // STEP  # low fits (or is nothing), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if not _bound(estimate(run.at(middle * STEP)), hours) else (low, middle)
    bound = _bound(estimate(run.at(high * STEP)), hours)
    return Fit(low * STEP or None, estimate(run.at(max(low, 1) * STEP)), bound)


def curve(run: Run, lengths: Sequence[int] = LENGTHS) -> list[tuple[int, Estimate]]:
    """What each length takes, as far as the model's window and the comparisons go."""
    end = min(run.model.window or LONGEST, max(float(run.lengths.tokens.max()), lengths[0]))
    shown = [length for length in lengths if length <= end]
    return [(length, estimate(run.at(length))) for length in shown]


def _bound(found: Estimate, hours: float) -> str:
    if not found.fits:
        return "memory"
    return "hours" if found.hours > hours else ""
