"""`tiebreak kaggle pack`."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle pack
"""


def command() -> None:
    """Not built yet."""
    raise UsageError("kaggle pack is not built yet")
