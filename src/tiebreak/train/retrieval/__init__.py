"""Making a retrieval judge: votes encoded, a kernel chosen by nested cross-validation, an index over all of them."""

from tiebreak.train.retrieval.recipe import Recipe
from tiebreak.train.retrieval.training import Added, Trained, Watch, add_votes, check_votes, train_retrieval

__all__ = ["Added", "Recipe", "Trained", "Watch", "add_votes", "check_votes", "train_retrieval"]
