"""What is known of a pretrained model before any library is loaded: its configuration, as plain values."""

from __future__ import annotations

import json
from typing import Any

from tiebreak.errors import TiebreakError, UsageError
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import SHAPES

ABSOLUTE = frozenset({"bert"})
"""Families with a table of learned positions: they cannot read a token beyond its end."""


def names() -> list[str]:
    """The shapes that ship."""
    return sorted(path.stem for path in SHAPES.glob("*.json"))


def settings(base: Base) -> dict[str, Any] | None:
    """The fields of config.json: of the model where it is on this machine, else of its shape; None if neither is.

    Raises:
        UsageError: The recipe names a shape that does not ship.
    """
    shape = _shape(base.shape) if base.shape else None
    try:
        located = resolve(base)
        if located.gguf is None:
            fields: dict[str, Any] = json.loads((located.folder / "config.json").read_text(encoding="utf-8"))
            return fields
    except (TiebreakError, OSError, ValueError):
        pass  # whether it must be there is asked when it is loaded
    return shape


def here(base: Base) -> bool:
    """Whether the model is on this machine."""
    try:
        resolve(base)
    except TiebreakError:
        return False
    return True


def _shape(name: str) -> dict[str, Any]:
    if name not in names():
        raise UsageError(f"shape {name!r} is not known", expected=f"one of {', '.join(names())}")
    fields: dict[str, Any] = json.loads((SHAPES / f"{name}.json").read_text(encoding="utf-8"))
    return fields
