"""`tiebreak ablate`: does a change to a recipe help?"""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = ""


def command() -> None:
    """Does a change to a recipe help?"""
    raise UsageError("not there yet")
