"""`tiebreak wrap reward`: a scalar reward model in, a judge of pairs with ties out."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak wrap reward Skywork/Skywork-Reward-V2-Qwen3-0.6B -o judge
"""


def command() -> None:
    """Make a judge of a reward model that scores one answer at a time."""
    raise UsageError("not there yet", expected="a later version")
