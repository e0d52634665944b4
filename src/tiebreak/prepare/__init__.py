"""Making votes fit for training and testing: groups, folds, duplicates, leaks, policies for odd rows, figures."""

from tiebreak.prepare.folding import folds, split
from tiebreak.prepare.grouping import Grouping, grouping, groups

__all__ = ["Grouping", "folds", "grouping", "groups", "split"]
