"""What an attack found, in words and in rows of text: the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tiebreak.attack.measuring import Figures, Measured
from tiebreak.scoring.bootstrap import Estimate

READERS: Final = {
    "one": "one order, as given",
    "both": "both orders averaged",
    "own": "as the judge reads",
}
HEADER: Final = ("tricks", "attempts", "won", "won by any trick", "won beyond control", "probability gained", "no case")
NONE: Final = "-"


def readers(measured: Sequence[Measured]) -> list[str]:
    """The readers that were measured, the judge's averaged reading first."""
    return [name for name in ("both", "own", "one") if any(name in one.overall for one in measured)]


def line(one: Measured, reader: str) -> list[str]:
    """The figures of a family, in the order of `HEADER`."""
    found = one.overall[reader]
    return [
        str(len(one.family.tricks)), f"{found.attempts:,}", share(found.won), share(found.any_won),
        share(found.beyond_control, signed=True), share(found.gain, signed=True),
        f"{sum(one.not_applicable.values()):,}",
    ]  # fmt: skip


def share(found: Estimate | None, *, signed: bool = False) -> str:
    """A share in per cent with its interval."""
    if found is None or np.isnan(found.value):
        return NONE
    form = "+.1f" if signed else ".1f"
    bounds = "" if np.isnan(found.low) else f" [{100 * found.low:{form}}, {100 * found.high:{form}}]"
    return f"{100 * found.value:{form}} %{bounds}"


def certain(found: Figures) -> bool:
    """Whether a family wins more than harmless edits do, beyond what the sample leaves open."""
    beyond = found.beyond_control
    return beyond is not None and not np.isnan(beyond.low) and beyond.low > 0


def sentences(measured: Sequence[Measured]) -> list[str]:
    """What to take home."""
    said = []
    for reader in readers(measured):
        tried = [one for one in measured if reader in one.overall and not one.family.control]
        works = sorted((one for one in tried if certain(one.overall[reader])), key=lambda one: -_won(one, reader))
        control = next((one for one in measured if one.family.control), None)
        noise = f" Harmless edits win {share(control.overall[reader].won)}." if control else ""
        if works:
            names = ", ".join(f"{one.family.name} ({100 * _won(one, reader):.0f} %)" for one in works)
            said.append(
                f"{READERS[reader].capitalize()}: {len(works)} of {len(tried)} families win votes: {names}.{noise}"
            )
        else:
            said.append(
                f"{READERS[reader].capitalize()}: none of {len(tried)} families wins more than harmless edits.{noise}"
            )
    return said


def warnings(measured: Sequence[Measured]) -> list[str]:
    """What stands between the figures and a conclusion."""
    found = []
    rows = max((figures.attempts for one in measured for figures in one.tricks.values()), default=0) // 2
    if rows < SMALL:
        found.append(f"Only {rows} votes: the intervals say how little that is.")
    short = [one.family.name for one in measured if _mostly_cut(next(iter(one.overall.values())))]
    if short:
        found.append(
            "In most attempts of these families the judge did not see the whole attacked answer, so what stood at its "
            f"end may never have reached it: {', '.join(short)}."
        )
    return found


SMALL: Final = 50
"""Fewer votes than these leave intervals of tens of per cent."""


def _mostly_cut(found: Figures) -> bool:
    return found.cut * 2 > found.attempts


def _won(one: Measured, reader: str) -> float:
    return one.overall[reader].won.value
