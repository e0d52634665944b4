"""Training: votes in, a judge bundle out. `features` needs no GPU and no torch; `finetune` trains language models."""

from tiebreak.train.features import Progress, Recipe, check_votes, shown, train_features

__all__ = ["Progress", "Recipe", "check_votes", "shown", "train_features"]
