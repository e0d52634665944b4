"""Opinion pools: several probability vectors a row as one, and the weights that suit votes best."""

from tiebreak.pooling.judging import RULES, Fit, fit
from tiebreak.pooling.pools import SPACES, Space, linear, logarithmic, pool
from tiebreak.pooling.simplex import best_weights

__all__ = ["RULES", "SPACES", "Fit", "Space", "best_weights", "fit", "linear", "logarithmic", "pool"]
