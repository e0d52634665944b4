"""`tiebreak kaggle init`."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle init
"""


def command() -> None:
    """Not built yet."""
    raise UsageError("kaggle init is not built yet")
