"""Dealing rows to folds or to parts: whole groups, with the labels spread evenly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from tiebreak import comparisons, dealing
from tiebreak.errors import UsageError
from tiebreak.prepare.joining import groups


def folds(frame: pl.DataFrame, k: int, *, seed: int, stratify: bool = True) -> pl.Series:
    """A fold from 0 to k - 1 for each row; a group stands in one fold only.

    Groups come from the column `group`; where it is not filled, from `groups`. The same rows, groups and seed give the
    same folds, in whatever order the rows stand.

    Args:
        frame: Comparisons.
        k: How many folds.
        seed: Chooses among equally good deals.
        stratify: Spread the labels (and the rows without one) evenly, not only the number of rows.

    Raises:
        UsageError: k is below 2.
        DataError: There are fewer groups than folds.
    """
    if k < 2:
        raise UsageError(f"{k} folds", expected="2 or more")
    return pl.Series("fold", deal(frame, [1 / k] * k, seed=seed, stratify=stratify), pl.Int64)


def split(
    frame: pl.DataFrame, *, fractions: Mapping[str, float], seed: int, stratify: bool = True
) -> dict[str, pl.DataFrame]:
    """Parts by name, such as `{"train": 0.8, "test": 0.2}`; rows keep their order, a group stands in one part only.

    Raises:
        UsageError: Fewer than two parts, or the fractions are not positive with sum 1.
        DataError: There are fewer groups than parts.
    """
    shares = list(fractions.values())
    if len(shares) < 2 or not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        listed = ", ".join(f"{name}={share:g}" for name, share in fractions.items())
        raise UsageError(f"fractions {listed}", expected="two or more positive fractions with sum 1")
    parts = deal(frame, shares, seed=seed, stratify=stratify)
    return {name: frame.filter(parts == number) for number, name in enumerate(fractions)}


def deal(frame: pl.DataFrame, shares: list[float], *, seed: int, stratify: bool = True) -> np.ndarray:
    """The number of the part each row goes to, with about the given shares of rows and of labels.

    The largest groups go first, each to the part that its arrival fills least beyond its share; among equals a hash of
    the seed and the group's name decides who goes first.
    """
    table = comparisons.validate(frame)
    names = table["group"] if table["group"].null_count() == 0 else groups(table)
    strata = _strata(table) if stratify else np.zeros(table.height, np.int64)

    def draw(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()

    return dealing.deal(names.to_numpy(), np.eye(4)[strata], shares, draw=draw, standardised=True)


def _strata(table: pl.DataFrame) -> np.ndarray:
    """0 to 2 for the label (or the largest soft label), 3 for rows without any."""
    targets = comparisons.targets(table)
    unknown = np.isnan(targets).any(axis=1)
    return np.where(unknown, 3, np.nan_to_num(targets).argmax(axis=1))
