"""Figures that several checks share."""

from __future__ import annotations

import numpy as np

from tiebreak.scoring import Bootstrap, Estimate


class Judged:
    """Labels that can be held against votes: rows with both.

    Args:
        p: Shape (rows, 3).
        targets: Shape (rows, 3).
        weights: Shape (rows,).
        groups: Shape (rows,).
        seed: Of the resamples.
    """

    def __init__(self, p: np.ndarray, targets: np.ndarray, weights: np.ndarray, groups: np.ndarray, seed: int) -> None:
        self.p, self.targets, self.weights, self.groups = p, targets, weights, groups
        self.bootstrap = Bootstrap(groups, seed=seed)
        self._total = self.bootstrap.sum(weights)

    def take(self, rows: np.ndarray, seed: int) -> Judged:
        """Some of the rows, by a mask."""
        return Judged(self.p[rows], self.targets[rows], self.weights[rows], self.groups[rows], seed)

    @property
    def prior(self) -> np.ndarray:
        """The weighted share of each class."""
        prior: np.ndarray = self.weights @ self.targets / self.weights.sum()
        return prior

    def draws(self, values: np.ndarray) -> np.ndarray:
        """The weighted mean of a value a row, on the data (index 0) and on resamples of whole groups."""
        draws: np.ndarray = self.bootstrap.sum(values * self.weights) / self._total
        return draws

    def mean(self, values: np.ndarray) -> Estimate:
        """The weighted mean with its 95 % interval."""
        return Estimate.of(self.draws(values))

    def errors(self, values: np.ndarray) -> float:
        """The weighted mean in standard errors: how many the mean lies from 0. 0 where there is no spread."""
        draws = self.draws(values)
        spread = float(draws[1:].std()) if len(draws) > 1 else 0.0
        return float(draws[0]) / spread if spread > 0 else 0.0


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy of each row in nats: 0 for certainty, log 3 = 1.0986 for no opinion."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p), 0.0)
    result: np.ndarray = -terms.sum(axis=1)
    return result


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where one of them never varies, or fewer than three rows are there."""
    from scipy.stats import rankdata

    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
