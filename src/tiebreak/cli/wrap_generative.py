"""`tiebreak wrap generative`: a causal language model in, a judge that answers A, B or tie out."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak wrap generative smollm2-135m-instruct -o judge
"""


def command() -> None:
    """Make a judge of a language model that is asked which answer is better."""
    raise UsageError("not there yet", expected="a later version")
