"""What can be tried on a judge: families of tricks, each with several variants, and harmless edits as a control."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tiebreak.attack.families import characters, manner, structure
from tiebreak.attack.families.trick import Family, Side, Trick, Turns
from tiebreak.errors import UsageError

FAMILIES: Final = (*structure.FAMILIES, *manner.FAMILIES, *characters.FAMILIES)
"""Every family, the control last."""


def choose(names: Sequence[str] = (), *, variants: int | None = None) -> tuple[Family, ...]:
    """The families of these names, each with its first `variants` tricks; the control is always among them.

    Args:
        names: Families; none named are all.
        variants: Tricks of each family at most; None is all.

    Raises:
        UsageError: There is no family of that name.
    """
    known = {family.name: family for family in FAMILIES}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise UsageError(
                f"--family {name!r}",
                expected=f"one of {', '.join(known)}",
                mend=f"--family {near[0]}" if near else "",
            )
    chosen = [family for family in FAMILIES if not names or family.name in names or family.control]
    return tuple(replace(family, tricks=family.tricks[:variants]) for family in chosen)


def fingerprint(families: Sequence[Family]) -> str:
    """A sha256 of what the tricks write, for the identity of a run."""
    sample: Turns = ["One. Two three!", "Four five, six.\n\nSeven eight."]
    written = [(family.name, trick.name, trick.on(sample, "a")) for family in families for trick in family.tricks]
    return hashlib.sha256(repr(written).encode()).hexdigest()


__all__ = ["FAMILIES", "Family", "Side", "Trick", "Turns", "choose", "fingerprint"]
