"""`tiebreak kaggle pull`."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle pull
"""


def command() -> None:
    """Not built yet."""
    raise UsageError("kaggle pull is not built yet")
