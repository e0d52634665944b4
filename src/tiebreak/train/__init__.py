"""Training: votes in, a judge bundle out."""

from tiebreak.train.features import Progress, train_features
from tiebreak.train.recipe import Recipe

__all__ = ["Progress", "Recipe", "train_features"]
