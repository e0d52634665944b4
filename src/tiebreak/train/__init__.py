"""Training: votes in, a judge bundle out."""

from tiebreak.train.features import Progress, check_votes, train_features
from tiebreak.train.recipe import Recipe
from tiebreak.train.scores import shown

__all__ = ["Progress", "Recipe", "check_votes", "shown", "train_features"]
