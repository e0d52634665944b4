"""`tiebreak teach synthesize`: prompts in, answers of chosen models and their labels out."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak teach synthesize prompts.parquet --model MODEL --model OTHER -o pairs.parquet
"""


def command() -> None:
    """Answer prompts with chosen models and pair the answers as training data."""
    raise UsageError("not there yet", expected="a later version")
