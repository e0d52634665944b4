"""Training a features judge: votes in, a judge bundle out."""

from tiebreak.train.features.recipe import Recipe
from tiebreak.train.features.scores import shown
from tiebreak.train.features.training import Progress, check_votes, train_features

__all__ = ["Progress", "Recipe", "check_votes", "shown", "train_features"]
