"""Figures of probabilities against votes, each with a 95 % interval by group bootstrap.

The definitions are those of `tiebreak evaluate`, which a test holds them to: log-loss in nats, Brier summed over the
classes, classwise ECE in 15 equal-mass bins, accuracy of the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from tiebreak.predictions import verdicts

BINS: Final = 15
RESAMPLES: Final = 1000
MAX_UNITS: Final = 20_000
"""More groups than this are dealt at random into so many bundles, resampled whole, so that memory stays bounded."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    @classmethod
    def of(cls, draws: np.ndarray, *, centred: bool = False) -> Self:
        """From the value on the data (index 0) and on the resamples (the rest).

        A calibration error is biased upward in every resample; `centred` moves its interval back to the value.
        """
        value = float(draws[0])
        low, high = (float(bound) for bound in np.quantile(draws[1:], [0.025, 0.975]))
        if centred:
            shift = value - float(draws[1:].mean())
            low, high = max(low + shift, 0.0), high + shift
        return cls(value, low, high)


@dataclass(frozen=True)
class Draws:
    """The figures of one set of probabilities on the data (index 0) and on every resample."""

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
        groups: Group of each row, as codes from 0.
        weights: Weight of each row.
        seed: The same seed gives the same draws.
    """

    def __init__(self, groups: np.ndarray, weights: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._units = groups
        self._size = int(groups.max()) + 1
        if self._size > MAX_UNITS:
            self._units = rng.permutation(self._size)[groups] % MAX_UNITS
            self._size = MAX_UNITS
        self._weights = weights
        self._counts = np.ones((1 + RESAMPLES, self._size), dtype=np.float64)
        for row in self._counts[1:]:
            row[:] = np.bincount(rng.integers(self._size, size=self._size), minlength=self._size)
        self._total = self._sums(np.ones(len(groups)))[:, 0]

    def measure(self, probabilities: np.ndarray, targets: np.ndarray) -> Draws:
        """All figures of probabilities of shape (rows, 3) against hard or soft labels of the same shape."""
        rows = [row_log_loss(probabilities, targets), ((probabilities - targets) ** 2).sum(axis=1),
                targets[np.arange(len(targets)), verdicts(probabilities)]]  # fmt: skip
        log_loss, brier, accuracy = (self._sums(row)[:, 0] / self._total for row in rows)
        gaps = [
            np.abs(self._sums(p - t, equal_mass_bins(p, self._weights))).sum(axis=1)
            for p, t in zip(probabilities.T, targets.T, strict=True)
        ]
        return Draws(log_loss, brier, np.mean(gaps, axis=0) / self._total, accuracy)

    def _sums(self, values: np.ndarray, bins: np.ndarray | None = None) -> np.ndarray:
        """Weighted sums in each bin, shape (1 + RESAMPLES, bins)."""
        cells, size = (self._units, 1) if bins is None else (self._units * BINS + bins, BINS)
        table = np.bincount(cells, weights=values * self._weights, minlength=self._size * size)
        sums: np.ndarray = self._counts @ table.reshape(self._size, size)
        return sums


def row_log_loss(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy of each row, in nats; a probability of 0 costs as much as one of 2e-16."""
    loss: np.ndarray = -(targets * np.log(np.clip(probabilities, np.finfo(np.float64).eps, 1))).sum(axis=1)
    return loss


def equal_mass_bins(values: np.ndarray, weights: np.ndarray, count: int = BINS) -> np.ndarray:
    """Bins of nearly equal weight; equal values share one, so that the order of rows does not matter."""
    order = np.argsort(values, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    share = below[np.searchsorted(values[order], values, side="left")] / below[-1]
    # The margin keeps a share such as 3/15 in bin 3 where float arithmetic gives 2.9999999.
    bins: np.ndarray = np.minimum((share * count + 1e-9).astype(np.int64), count - 1)
    return bins
