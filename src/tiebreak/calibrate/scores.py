"""The figures by which calibrations are compared, all on the same resamples of whole groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiebreak.scoring import Bootstrap, row_brier, row_hits, row_log_loss
from tiebreak.scoring.metrics import BINS, equal_mass_bins


@dataclass(frozen=True)
class Draws:
    """The figures of one set of probabilities on the data (index 0) and on every resample; `ece` is classwise."""

    log_loss: np.ndarray
    brier: np.ndarray
    ece: np.ndarray
    accuracy: np.ndarray

    def mean_with(self, others: list[Draws]) -> Draws:
        """The mean of several repeats, resample by resample."""
        every = [self, *others]
        return Draws(**{
            name: np.mean([getattr(draws, name) for draws in every], axis=0) for name in self.__dataclass_fields__
        })  # fmt: skip


class Resampling:
    """Draws of whole groups with replacement; everything measured with one instance is paired.

    Args:
        groups: Group of each row.
        weights: Weight of each row.
        seed: The same seed gives the same draws.
    """

    def __init__(self, groups: np.ndarray, weights: np.ndarray, seed: int) -> None:
        self._bootstrap = Bootstrap(groups, seed=seed)
        self._weights = weights
        self._total = self._bootstrap.sum(weights)

    def measure(self, probabilities: np.ndarray, targets: np.ndarray) -> Draws:
        """All figures of probabilities of shape (rows, 3) against hard or soft labels of the same shape."""
        rows = (score(probabilities, targets) for score in (row_log_loss, row_brier, row_hits))
        log_loss, brier, accuracy = (self._bootstrap.sum(row * self._weights) / self._total for row in rows)
        gaps = [self._gap(p, t) for p, t in zip(probabilities.T, targets.T, strict=True)]
        return Draws(log_loss, brier, np.mean(gaps, axis=0) / self._total, accuracy)

    def _gap(self, probability: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Summed distance of one class's probability from its votes, over bins of equal mass."""
        bins = equal_mass_bins(probability, BINS, self._weights)
        distance: np.ndarray = np.abs(
            self._bootstrap.sum((probability - target) * self._weights, by=bins, size=BINS)
        ).sum(axis=1)
        return distance
