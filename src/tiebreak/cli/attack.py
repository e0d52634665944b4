"""`tiebreak attack`: can a judge be talked into a verdict?"""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak attack JUDGE --data votes.parquet -o attacks
"""


def command() -> None:
    """Try to win votes by tricks that no person would reward, and count how often it works."""
    raise UsageError("not there yet", expected="a later version")
