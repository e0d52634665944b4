"""Making votes fit for training and testing: groups, folds, duplicates, leaks, odd rows, figures.

docs/prepare.md says how it is used.
"""

from tiebreak.prepare.cleaning import CleanReport, clean
from tiebreak.prepare.duplicates import DedupeReport, dedupe
from tiebreak.prepare.folding import folds, split
from tiebreak.prepare.joining import Grouping, grouping, groups
from tiebreak.prepare.leakage import Leak, leaks
from tiebreak.prepare.overlapping import OverlapReport, overlap
from tiebreak.prepare.summary import Stats, stats
from tiebreak.prepare.swapping import twins
from tiebreak.prepare.texts import normalise

__all__ = [
    "CleanReport",
    "DedupeReport",
    "Grouping",
    "Leak",
    "OverlapReport",
    "Stats",
    "clean",
    "dedupe",
    "folds",
    "grouping",
    "groups",
    "leaks",
    "normalise",
    "overlap",
    "split",
    "stats",
    "twins",
]
