"""`tiebreak kaggle push`."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle push
"""


def command() -> None:
    """Not built yet."""
    raise UsageError("kaggle push is not built yet")
