"""The arithmetic of a blend: weights for every row, or weights that depend on what kind of row it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, model_validator

from tiebreak import comparisons, pooling, predictions
from tiebreak.errors import DataError
from tiebreak.judges.joining import pooled

Kind = Literal["agreement", "turns", "length"]
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "agreement": ("one verdict", "different verdicts"),
    "turns": ("one turn", "several turns"),
    "length": ("short", "middle", "long"),
}
"""Ways to part the rows into slices, and the slices. None of them tells A from B."""

LONG: Final = (1_500, 5_000)
"""Characters of prompt and answers together from which a comparison is `middle` and `long`."""

_ROUNDING: Final = 1e-6


class Slices(BaseModel):
    """Weights for each slice of the rows.

    Attributes:
        by: One of `KINDS`.
        weights: For each slice, in the order of `KINDS`, one weight a member.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Kind
    weights: tuple[tuple[float, ...], ...]


class Mix(BaseModel):
    """How opinions become one.

    Attributes:
        weights: One a member, >= 0, sum 1.
        space: Mean of probabilities or of logits.
        slices: Other weights for slices of the rows; None: the same for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: tuple[float, ...]
    space: pooling.Space
    slices: Slices | None = None

    @model_validator(mode="after")
    def _on_the_simplex(self) -> Self:
        rows = [self.weights, *(self.slices.weights if self.slices else ())]
        for row in rows:
            w = np.array(row)
            if len(w) != len(self.weights) or not (w >= 0).all() or not abs(w.sum() - 1) < _ROUNDING:
                raise ValueError(f"weights {list(row)} are not {len(self.weights)} numbers >= 0 with sum 1")
        if self.slices and len(self.slices.weights) != len(KINDS[self.slices.by]):
            raise ValueError(f"{len(self.slices.weights)} slices by {self.slices.by}, not {len(KINDS[self.slices.by])}")
        return self

    @property
    def heard(self) -> list[int]:
        """The members without which an answer cannot be given."""
        if self.slices is None:
            return [place for place, weight in enumerate(self.weights) if weight > 0]
        if self.slices.by == "agreement":
            return list(range(len(self.weights)))
        return [place for place, column in enumerate(zip(*self.slices.weights, strict=True)) if any(column)]

    def pool(self, opinions: np.ndarray, table: pl.DataFrame) -> np.ndarray:
        """The blended probabilities, shape (rows, 3), exactly mirrored where every opinion is.

        Args:
            opinions: Of the members in `heard`, shape (k, rows, 3).
            table: The rows; their texts where slices are by texts.

        Raises:
            DataError: The slices are by texts, and there are none.
        """
        if self.slices is None:
            return pooled(opinions, self._of_heard(self.weights), self.space)
        codes = slice_of(self.slices.by, opinions, table)
        found = np.empty(opinions.shape[1:])
        for code, weights in enumerate(self.slices.weights):
            rows = codes == code
            if rows.any():
                found[rows] = pooled(opinions[:, rows], self._of_heard(weights), self.space)
        return found

    def _of_heard(self, weights: Sequence[float]) -> np.ndarray:
        return np.array([weights[place] for place in self.heard])


def slice_of(by: str, opinions: np.ndarray, table: pl.DataFrame) -> np.ndarray:
    """The slice of each row, as codes into `KINDS[by]`; the same for the row's swapped twin.

    Raises:
        DataError: The slices are by texts, and there are none.
    """
    if by == "agreement":
        said = np.stack([predictions.verdicts(p) for p in opinions])
        differ: np.ndarray = (said != said[0]).any(axis=0).astype(np.int64)
        return differ
    if not set(comparisons.TEXTS) <= set(table.columns):
        raise DataError(f"slices by {by} need the texts of the comparisons", expected="votes with their texts")
    if by == "turns":
        several: np.ndarray = (table["prompt"].list.len() > 1).to_numpy().astype(np.int64)
        return several
    size = pl.sum_horizontal(map(comparisons.characters, comparisons.TEXTS))
    codes: np.ndarray = np.searchsorted(LONG, table.select(size).to_series().to_numpy(), side="right")
    return codes
