"""`tiebreak kaggle status`."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle status
"""


def command() -> None:
    """Not built yet."""
    raise UsageError("kaggle status is not built yet")
