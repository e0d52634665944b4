"""The labelled votes with a judge's probabilities beside them: what every figure of a report is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.errors import DataError
from tiebreak.scoring.bootstrap import Bootstrap, Estimate, ratio

MIRROR: Final = [1, 0, 2]


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows that have a label and a weight above 0.

    Attributes:
        votes: The comparisons, in `tiebreak.comparisons.SCHEMA`.
        kept: Which rows of the file these are.
        probabilities: The judge's, shape (rows, 3).
        targets: One-hot votes or soft labels, shape (rows, 3).
        weights: Row weights.
        groups: Codes of the units that are resampled whole.
        bootstrap: The resamples that every interval uses.
    """

    votes: pl.DataFrame
    kept: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    bootstrap: Bootstrap

    @cached_property
    def verdicts(self) -> np.ndarray:
        """Codes into a, b, tie."""
        return predictions.verdicts(self.probabilities)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of prompt, answer A and answer B, over all turns; shape (rows, 3)."""
        counts = self.votes.select(map(comparisons.characters, comparisons.TEXTS))
        return counts.to_numpy().astype(np.float64)

    @cached_property
    def log_ratio(self) -> np.ndarray:
        """How many times as long A is as B, as a natural logarithm; one character is added to each.

        A difference of logarithms changes nothing but its sign under swap; the logarithm of a quotient is not so exact.
        """
        a, b = self.lengths[:, 1], self.lengths[:, 2]
        logarithm: np.ndarray = np.log(a + 1) - np.log(b + 1)
        return logarithm

    @property
    def has_answers(self) -> bool:
        """Whether any answer has text: without, nothing about length or content can be said."""
        return bool(self.lengths[:, 1:].any())

    @cached_property
    def total_weight(self) -> np.ndarray:
        """Sum of weights on the data and on every resample."""
        return self.bootstrap.sum(self.weights)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Weighted mean of a value per row, on the data and on every resample; of several, where each has a column."""
        if values.ndim == 1:
            return ratio(self.bootstrap.sum(values * self.weights), self.total_weight)
        return ratio(self.bootstrap.sum(values * self.weights[:, None]), self.total_weight[:, None])

    def means(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        """As `mean` for several values by name, in one pass over the resamples."""
        columns = self.mean(np.stack(list(values.values()), axis=1))
        return dict(zip(values, columns.T, strict=True))

    def estimate(self, values: np.ndarray) -> Estimate:
        """Weighted mean of a value per row, with its interval."""
        return Estimate.of(self.mean(values))

    def share(self, part: np.ndarray, whole: np.ndarray) -> Estimate:
        """Weighted sum of one value per row over the weighted sum of another, with its interval."""
        sums = self.means(part=part, whole=whole)
        return Estimate.of(ratio(sums["part"], sums["whole"]))


def build(votes: pl.DataFrame, judged: pl.DataFrame, *, resamples: int, seed: int) -> Sample:
    """Keep the rows that can be scored.

    Args:
        votes: Validated comparisons.
        judged: Validated predictions, aligned to the votes.
        resamples: How many resamples.
        seed: Their seed.

    Raises:
        DataError: No vote has a label and a weight above 0.
    """
    targets = comparisons.targets(votes)
    weights = votes["weight"].fill_null(1.0).to_numpy()
    kept = np.flatnonzero(~np.isnan(targets).any(axis=1) & (weights > 0))
    if not len(kept):
        raise DataError(
            f"none of the {votes.height} votes has a label and a weight above 0",
            expected="votes with a label column (a, b, tie) or soft labels",
            mend="give the file with the votes as --labels",
        )
    labelled = votes[kept]
    groups = group_codes(labelled)
    return Sample(
        votes=labelled,
        kept=kept,
        probabilities=predictions.probabilities(judged)[kept],
        targets=targets[kept],
        weights=weights[kept],
        groups=groups,
        bootstrap=Bootstrap(groups, resamples=resamples, seed=seed),
    )


def group_codes(votes: pl.DataFrame) -> np.ndarray:
    """Codes of the units of resampling: `group` where given, else the same prompt but for NFKC, case and white space.

    A row with neither a group nor any prompt text stands alone: an absent prompt is no evidence of a common one.
    """
    prompt = (
        pl.col("prompt").list.join("\n", ignore_nulls=True).str.normalize("NFKC").str.to_lowercase()
        .str.replace_all(r"\s+", " ").str.strip_chars()
    )  # fmt: skip
    row = pl.int_range(pl.len()).cast(pl.String)
    key = (
        pl.when(pl.col("group").is_not_null()).then(pl.lit("group ") + pl.col("group"))
        .when(prompt != "").then(pl.lit("prompt ") + prompt)
        .otherwise(pl.lit("row ") + row)
    )  # fmt: skip
    codes: np.ndarray = votes.select(key.rank("dense").cast(pl.Int64)).to_series().to_numpy() - 1
    return codes
