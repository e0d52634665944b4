"""`tiebreak combine cascade`: a cheap judge first, a dearer one where it pays."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak combine cascade embedded large --labels votes.parquet -o cascade
"""


def command() -> None:
    """Fit when the next, dearer judge is asked, for a budget or a target."""
    raise UsageError("not there yet", expected="a later version")
