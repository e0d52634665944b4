"""The labels of several teachers on the same rows, and which of these rows anything may be learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from tiebreak import comparisons, soft_labels
from tiebreak.calibrate.rows import groups_of
from tiebreak.comparisons import SOFT
from tiebreak.errors import DataError


@dataclass(frozen=True)
class Opinions:
    """Labels by teacher, aligned with the rows.

    Attributes:
        rows: The comparisons that every teacher labelled.
        left_out: Comparisons that some teacher did not label.
        tables: `soft_labels.SCHEMA` by teacher, a row a comparison.
        p: Shape (teachers, rows, 3).
        targets: Votes, shape (rows, 3); NaN without one.
        weights: Of the votes.
        groups: Group codes.
    """

    rows: pl.DataFrame
    left_out: int
    tables: dict[str, pl.DataFrame]
    p: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray

    @property
    def names(self) -> list[str]:
        """The teachers' names."""
        return list(self.tables)

    @property
    def remembered(self) -> np.ndarray:
        """Rows on which some teacher was trained: what it says there is no measure of it."""
        known = [table["in_sample"].fill_null(value=False).to_numpy() for table in self.tables.values()]
        remembered: np.ndarray = np.logical_or.reduce(known)
        return remembered

    @property
    def fitting(self) -> np.ndarray:
        """Rows that calibrations and weights are fitted on: with a vote of some weight, and not remembered."""
        voted: np.ndarray = ~np.isnan(self.targets).any(axis=1) & (self.weights > 0) & ~self.remembered
        return voted


def gather(labels: Mapping[str, pl.DataFrame], votes: pl.DataFrame) -> Opinions:
    """Bring the labels of several teachers to the rows that all of them labelled, by id and content.

    Args:
        labels: Validated tables of labels by teacher.
        votes: Comparisons with distinct ids.

    Raises:
        DataError: The votes name an id twice, no row is labelled by all, or texts are not those that were judged.
    """
    if votes["id"].is_duplicated().any():
        raise DataError("the votes name an id more than once", expected="comparisons with distinct ids")
    rows = votes
    for table in labels.values():
        rows = rows.join(table.select("id"), on="id", how="semi", maintain_order="left")
    if not rows.height:
        raise DataError("no row of the votes is labelled by every teacher", expected="labels of these votes, by id")
    tables = {name: soft_labels.align(table, rows, where=f"labels of {name}") for name, table in labels.items()}
    return Opinions(
        rows=rows,
        left_out=votes.height - rows.height,
        tables=tables,
        p=np.stack([table.select(SOFT).to_numpy() for table in tables.values()]),
        targets=comparisons.targets(rows),
        weights=rows["weight"].fill_null(1.0).to_numpy(),
        groups=groups_of(rows).to_numpy(),
    )
