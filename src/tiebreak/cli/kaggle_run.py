"""`tiebreak kaggle run`."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle run
"""


def command() -> None:
    """Not built yet."""
    raise UsageError("kaggle run is not built yet")
