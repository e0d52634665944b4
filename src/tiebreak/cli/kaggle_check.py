"""`tiebreak kaggle check`."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle check
"""


def command() -> None:
    """Not built yet."""
    raise UsageError("kaggle check is not built yet")
