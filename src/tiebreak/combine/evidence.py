"""What several judges said of the same votes: where the fits of a blend and of a cascade start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from tiebreak import calibrate, comparisons
from tiebreak.pooling.judging import fold_of


@dataclass(frozen=True)
class Evidence:
    """Labelled rows and what each judge said of them.

    Attributes:
        names: Of the judges.
        opinions: Shape (judges, rows, 3).
        targets: Hard or soft labels, shape (rows, 3).
        weights: Of the rows.
        groups: Codes; rows of one group stay together in folds and in resamples.
    """

    names: tuple[str, ...]
    opinions: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, tables: Mapping[str, pl.DataFrame], votes: pl.DataFrame) -> Self:
        """Bring predictions and votes together, by id; rows without a label or of weight 0 are left out.

        Raises:
            DataError: Ids do not match, or there is nothing to learn from.
        """
        joined = [calibrate.join(table, votes) for table in tables.values()]
        first = joined[0]
        opinions = np.stack([one.probabilities for one in joined])
        return cls(tuple(tables), opinions, first.targets, first.weights, first.groups)

    @staticmethod
    def used(votes: pl.DataFrame) -> np.ndarray:
        """Which votes `of` takes: those with a label and a weight."""
        missing = {name: pl.lit(None, dtype=dtype) for name, dtype in comparisons.SCHEMA.items()}
        full = votes.with_columns(value.alias(name) for name, value in missing.items() if name not in votes.columns)
        targets = comparisons.targets(full.with_columns(pl.col("label").cast(comparisons.LABEL)))
        known: np.ndarray = ~np.isnan(targets).any(axis=1) & (full["weight"].fill_null(1.0).to_numpy() != 0)
        return known

    def take(self, rows: np.ndarray) -> Evidence:
        """The rows of a mask."""
        return Evidence(
            self.names, self.opinions[:, rows], self.targets[rows], self.weights[rows], self.groups[rows]
        )  # fmt: skip

    def folds(self, count: int, seed: int) -> np.ndarray:
        """The fold of each row: whole groups, ties spread evenly.

        Raises:
            DataError: There are fewer groups than folds.
        """
        return fold_of(self.groups, self.targets, count, seed)
