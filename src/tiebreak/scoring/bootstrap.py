"""Intervals by resampling groups, not rows: votes on one prompt resemble each other, so they go in or out together.

Every figure of a report is arithmetic on weighted sums. `Bootstrap.sum` gives such a sum for the data itself (index 0)
and for every resample (from index 1 on), so that a ratio, a difference or an F1 is written once and holds for all.
All sums of one `Bootstrap` use the same resamples: differences between two judges are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

LEVEL: Final = 0.95
MAX_UNITS: Final = 16_384
"""Above so many groups, groups are dealt at random into this many bundles, and bundles are resampled whole: the
interval is as valid, and time and memory stay bounded for millions of votes."""

_CELLS: Final = 2**24
"""Counts held as float64 at a time (128 MiB). Few large products, not many small ones: each waits for every thread."""


@dataclass(frozen=True)
class Estimate:
    """A figure with the bounds of its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: np.ndarray, *, centred: bool = False) -> Self:
        """From the value on the data (index 0) and on the resamples (the rest).

        Args:
            draws: Array of shape (1 + resamples,).
            centred: Move the interval to the value. For a statistic such as a calibration error, which is biased
                upward in every sample and more so in resamples, the plain percentiles may miss the value itself.
        """
        value, resampled = float(draws[0]), draws[1:][~np.isnan(draws[1:])]
        if np.isnan(value) or len(resampled) < 2:
            return cls(value, float("nan"), float("nan"))
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(resampled, [tail, 1 - tail])
        if centred:
            shift = value - float(resampled.mean())
            low, high = max(low + shift, 0.0), high + shift
        return cls(value, float(low), float(high))

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.4f}" + ("" if np.isnan(self.low) else f" [{self.low:.4f}, {self.high:.4f}]")


class Bootstrap:
    """Resampled groups of rows.

    Args:
        groups: The group of each row, as codes or as anything `numpy.unique` sorts.
        resamples: How many times to draw as many groups as there are, with replacement.
        seed: The same seed gives the same resamples.
    """

    def __init__(self, groups: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> None:
        found, units = np.unique(groups, return_inverse=True)
        rng = np.random.default_rng(seed)
        self.groups = len(found)
        self.resamples = resamples
        self._units = units.reshape(-1)
        self._size = self.groups
        if self.groups > MAX_UNITS:
            self._units = rng.permutation(self.groups)[self._units] % MAX_UNITS
            self._size = MAX_UNITS
        # One group cannot be resampled into anything else: no resample, and so no interval, rather than a false 0.
        drawn = resamples if self.groups > 1 else 0
        small = (1 + drawn) * self._size <= _CELLS
        self._counts = np.empty((1 + drawn, self._size), dtype=np.float64 if small else np.uint16)
        self._counts[0] = 1
        for row in self._counts[1:]:
            row[:] = np.bincount(rng.integers(self._size, size=self._size), minlength=self._size)

    def sum(self, values: np.ndarray, *, by: np.ndarray | None = None, size: int = 1) -> np.ndarray:
        """Sums over the rows, for the data and for every resample.

        Args:
            values: Shape (rows,) or (rows, k).
            by: Optional class of each row, 0 to size - 1, to sum within; rows with a negative class are left out.
            size: The number of classes of `by`.

        Returns:
            Shape (1 + resamples, [size,] [k]), the parts in brackets where `by` or k was given.
        """
        columns = values.reshape(len(values), -1)
        units = self._units
        if by is not None:
            columns, units = columns[by >= 0], self._units[by >= 0] * size + by[by >= 0]
        cells = self._size * (size if by is not None else 1)
        table = np.stack([np.bincount(units, weights=column, minlength=cells) for column in columns.T], axis=-1)
        table = table.reshape(self._size, -1)
        step = max(_CELLS // self._size, 1)
        blocks = [
            self._counts[start : start + step].astype(np.float64, copy=False) @ table
            for start in range(0, len(self._counts), step)
        ]
        shape = (len(self._counts), *((size,) if by is not None else ()), *values.shape[1:])
        return np.concatenate(blocks).reshape(shape)


def interval(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The weighted mean of a value per row, with its 95 % interval by group bootstrap.

    Args:
        values: Shape (rows,), for example `row_log_loss(p, t)`, or a difference of two of them for a paired comparison.
        groups: The group of each row.
        weights: Row weights; ones by default.
        resamples: Number of resamples.
        seed: Seed of the resamples.
    """
    weights = np.ones(len(values)) if weights is None else weights
    bootstrap = Bootstrap(groups, resamples=resamples, seed=seed)
    return Estimate.of(ratio(bootstrap.sum(values * weights), bootstrap.sum(weights)))


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Element-wise quotient; NaN, without a warning, where nothing is below."""
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: np.ndarray = np.where(below == 0, np.nan, above / below)
    return quotient
