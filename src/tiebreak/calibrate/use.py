"""Putting a calibration on a table of predictions, and taking one off."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tiebreak import bundle, comparisons, judges, predictions
from tiebreak.calibration import FLOOR, Calibration
from tiebreak.errors import DataError

_STEPS: Final = 100
_SAME: Final = 1e-6


def apply_table(calibration: Calibration, table: pl.DataFrame) -> pl.DataFrame:
    """Calibrated predictions, verdicts made anew.

    A table without any swap gap comes from a swap-equivariant judge: there the map is averaged over both orders, so
    that it stays so. Elsewhere the gap after calibration is not known from one order, and becomes null.

    Args:
        calibration: The map.
        table: Predictions.

    Raises:
        DataError: The table is not one of predictions.
    """
    table = predictions.validate(table)
    apply = calibration.apply_equivariant if is_equivariant(table) else calibration.apply
    done = predictions.build(table["id"], apply(predictions.probabilities(table)))
    gap = pl.when(table["swap_gap"] == 0).then(0.0).otherwise(None) if is_equivariant(table) else pl.lit(None)
    return done.with_columns(gap.cast(pl.Float64).alias("swap_gap"), table["truncated"])


def is_equivariant(table: pl.DataFrame) -> bool:
    """Whether the judge behind a validated prediction table gave no row a swap gap."""
    return bool((table["swap_gap"] == 0).fill_null(value=False).all())


def uncalibrated(table: pl.DataFrame, votes: pl.DataFrame, directory: Path) -> tuple[pl.DataFrame, str]:
    """What a calibrated bundle would have said without its calibration, so that a new one can replace it.

    Args:
        table: Predictions.
        votes: The votes they are for. With texts, the judge is asked again; without, its map is undone.
        directory: The bundle that made the predictions.

    Returns:
        The predictions before calibration, and in words how they came about.

    Raises:
        DataError: There are no texts, and the map cannot be undone.
    """
    calibration = bundle.read(directory).calibration
    if calibration is None:
        return table, "the bundle has no calibration"
    if not set(comparisons.REQUIRED) <= set(votes.columns):
        before = undo(calibration, predictions.probabilities(table))
        return predictions.build(table["id"], before), "its calibration was undone"
    judge = judges.load(directory)
    given = predictions.probabilities(predictions.align(table, votes))
    if np.abs(given - predictions.probabilities(judge.predict(votes))).max(initial=0.0) > _SAME:
        return table, "these are not the bundle's own predictions for these votes: taken as not calibrated"
    return predictions.build(votes["id"], judge.score(votes).probabilities), "its scores before calibration were used"


def undo(calibration: Calibration, probabilities: np.ndarray) -> np.ndarray:
    """The probabilities before a calibration, from those after it.

    With u = W^-1 (log p' - b) and v = W^-1 1, log p = u + c v for one c in each row, the one with which the
    probabilities sum to 1. Where v > 0 their sum rises with c, and its logarithm is convex: Newton's method finds it.

    Raises:
        DataError: The map cannot be undone: it is not the same for A and B, or several inputs have the same output.
    """
    inverse = _inverse(calibration)
    v = inverse.sum(axis=1)
    u = (np.log(np.clip(probabilities, FLOOR, None)) - np.array(calibration.bias)) @ inverse.T
    c = np.zeros(len(u))
    for _ in range(_STEPS):
        logs = u + c[:, None] * v
        top = logs.max(axis=1)
        parts = np.exp(logs - top[:, None])
        excess = top + np.log(parts.sum(axis=1))
        if not np.abs(excess).max(initial=0.0) > 1e-13:
            break
        c = c - excess * parts.sum(axis=1) / (parts @ v)
    return predictions.softmax(u + c[:, None] * v)


def _inverse(calibration: Calibration) -> np.ndarray:
    weight = np.array(calibration.weight)
    if calibration.is_symmetric and abs(np.linalg.det(weight)) > 1e-9:
        inverse = np.linalg.inv(weight)
        if (inverse.sum(axis=1) > 0).all():
            return inverse
    raise DataError(
        f"these predictions are calibrated already, by a {calibration.method} map that cannot be undone",
        expected="predictions of a judge without calibration, or with a symmetric or temperature one",
        mend="give --labels a file with the texts, or calibrate the bundle from before that calibration",
    )
