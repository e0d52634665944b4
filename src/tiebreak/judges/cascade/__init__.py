"""The cascade: a cheap judge first, a dearer one only for the comparisons where it pays."""

from tiebreak.judges.cascade.judge import CascadeJudge, Settings

__all__ = ["CascadeJudge", "Settings"]
