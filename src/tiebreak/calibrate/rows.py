"""What every fit starts from: checked arrays of probabilities, labels, weights and groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.comparisons import LABELS
from tiebreak.errors import DataError

GROUPS_A_PARAMETER: Final = 10
"""Fewer labelled groups than this for each parameter, and a map describes the sample instead of the judge."""

_SPACE: Final = r"\s+"


class Needs(Protocol):
    """What decides how many votes a method needs."""

    @property
    def name(self) -> str:
        """As users type it."""
        ...

    @property
    def parameters(self) -> int:
        """How many numbers the data decide."""
        ...

    @property
    def has_bias(self) -> bool:
        """Whether it needs votes for every class."""
        ...


@dataclass(frozen=True)
class Rows:
    """Labelled rows, checked.

    Attributes:
        probabilities: Shape (rows, 3), order a, b, tie.
        targets: Hard or soft labels, shape (rows, 3).
        groups: Codes from 0; rows of one group stay together in folds and in resamples.
        weights: Weight of each row.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        targets: np.ndarray,
        groups: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Check arrays; rows without a label (NaN) or with weight 0 are left out.

        Raises:
            DataError: Shapes differ, a row is not three probabilities, a weight is negative, or no row is left.
        """
        n = len(probabilities)
        weights = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
        groups = np.arange(n) if groups is None else np.asarray(groups)
        if probabilities.shape != (n, 3) or targets.shape != (n, 3) or weights.shape != (n,) or groups.shape != (n,):
            raise DataError(
                f"probabilities {probabilities.shape}, labels {targets.shape}, weights {weights.shape} and groups "
                f"{groups.shape} do not belong together",
                expected="(rows, 3), (rows, 3), (rows,), (rows,)",
            )
        used = ~np.isnan(targets).any(axis=1) & (weights != 0)
        if not used.any():
            raise DataError("no row has a label and a weight above 0", expected="votes with labels")
        p, t, w = probabilities[used].astype(np.float64), targets[used].astype(np.float64), weights[used]
        for what, values in (("probabilities", p), ("labels", t)):
            if not (np.isfinite(values).all() and (values >= 0).all() and np.abs(values.sum(axis=1) - 1).max() < 1e-6):
                raise DataError(f"{what} hold rows that are not three probabilities", expected="finite, >= 0, sum 1")
        if not (np.isfinite(w).all() and (w > 0).all()):
            raise DataError("weights hold a negative or infinite number", expected="finite numbers >= 0")
        return cls(p, t, np.unique(groups[used], return_inverse=True)[1].reshape(-1), w)

    @property
    def group_count(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1

    @property
    def shares(self) -> np.ndarray:
        """The weights with sum 1."""
        shares: np.ndarray = self.weights / self.weights.sum()
        return shares

    @property
    def prior(self) -> np.ndarray:
        """The weighted share of each class."""
        prior: np.ndarray = self.shares @ self.targets
        return prior

    def take(self, chosen: np.ndarray) -> Rows:
        """The rows of a mask or of indices, with groups numbered anew."""
        return type(self)(
            self.probabilities[chosen], self.targets[chosen],
            np.unique(self.groups[chosen], return_inverse=True)[1].reshape(-1), self.weights[chosen],
        )  # fmt: skip

    def check_enough(self, family: Needs, *, force: bool = False) -> None:
        """Refuse a family that these rows cannot decide; `force` allows too few groups.

        Raises:
            DataError: Too few groups, or a class that nobody voted for.
        """
        needed = GROUPS_A_PARAMETER * family.parameters
        if self.group_count < needed and not force:
            raise DataError(
                f"{self.group_count} labelled groups are too few for the {family.parameters} numbers of {family.name}",
                expected=f"at least {needed}",
                mend="more votes, or a method with fewer parameters",
            )
        absent = [label for label, share in zip(LABELS, self.prior, strict=True) if share <= 0]
        if absent and family.has_bias:
            raise DataError(
                f"nobody voted {' or '.join(absent)}, so a bias has no finite value",
                expected="votes for a, b and tie",
                mend="--method temperature",
            )


def join(table: pl.DataFrame, votes: pl.DataFrame) -> Rows:
    """Bring a prediction table and votes together, by id.

    Args:
        table: Predictions.
        votes: A table with `id` and `label` or `p_a, p_b, p_tie`, and whatever else of the comparisons there is:
            `weight`, `group` and the texts are used when present.

    Raises:
        DataError: Ids do not match, or there is nothing to learn from.
    """
    table = predictions.align(predictions.validate(table), votes)
    return Rows.of(predictions.probabilities(table), *labels_of(votes))


def labels_of(votes: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, groups and weights of a table of votes, with texts or without; NaN where a vote has no label."""
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in comparisons.SCHEMA.items()}
    votes = votes.with_columns(value.alias(name) for name, value in missing.items() if name not in votes.columns)
    return (
        comparisons.targets(votes.with_columns(pl.col("label").cast(comparisons.LABEL))),
        groups_of(votes).to_numpy(),
        votes["weight"].fill_null(1.0).to_numpy(),
    )


def groups_of(votes: pl.DataFrame) -> pl.Series:
    """Group codes: by `group` where given, else by the normalised prompt, else by id."""
    prompt = (
        pl.col("prompt").list.join("\x00", ignore_nulls=True)
        .str.normalize("NFKC").str.to_lowercase().str.replace_all(_SPACE, " ").str.strip_chars()
    )  # fmt: skip
    key = pl.concat_str(pl.lit("group "), "group")
    if "prompt" in votes.columns:
        # An absent prompt is no evidence of a common one.
        key = pl.coalesce(key, pl.when(prompt != "").then(pl.concat_str(pl.lit("prompt "), prompt)))
    return votes.select(pl.coalesce(key, pl.concat_str(pl.lit("id "), "id")).rank("dense").alias("group"))["group"]
