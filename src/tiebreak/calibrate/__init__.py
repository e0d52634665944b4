"""Are the probabilities honest, and how are they mended? Fit, judge and keep a calibration."""

from __future__ import annotations

import numpy as np
import polars as pl

from tiebreak.calibrate import alarm
from tiebreak.calibrate.document import Document, load, save
from tiebreak.calibrate.families import FAMILIES, METHODS
from tiebreak.calibrate.nested import Result, Study, fit_rows, study
from tiebreak.calibrate.rows import Rows, join
from tiebreak.calibrate.use import apply_table, is_equivariant, uncalibrated, undo
from tiebreak.calibration import Calibration
from tiebreak.errors import UsageError
from tiebreak.scoring import Estimate


def fit(
    predictions: pl.DataFrame | np.ndarray,
    votes: pl.DataFrame | np.ndarray,
    *,
    method: str = "symmetric",
    weights: np.ndarray | None = None,
    force: bool = False,
    seed: int = 0,
) -> Calibration:
    """Fit one calibration; `study` also says what it is worth.

    Args:
        predictions: A prediction table, or probabilities of shape (rows, 3), made for votes the judge never saw.
        votes: Comparisons with labels, met by id; or hard or soft labels of shape (rows, 3).
        method: One of `METHODS`.
        weights: Row weights for arrays; tables bring their own `weight`.
        force: Return the map even if the collapse alarm is against it or rows are few.
        seed: Seed of the folds in which Dirichlet chooses its penalty.

    Raises:
        CollapseError: The map is a constant, turns the verdict round, or has no finite optimum.
        DataError: The tables do not fit together, or the rows are too few.
        UsageError: The method is unknown.
    """
    if method not in FAMILIES:
        raise UsageError(f"unknown calibration method {method!r}", expected=f"one of {', '.join(METHODS)}")
    if isinstance(predictions, pl.DataFrame) and isinstance(votes, pl.DataFrame):
        used = join(predictions, votes)
    elif isinstance(predictions, np.ndarray) and isinstance(votes, np.ndarray):
        used = Rows.of(predictions, votes, weights=weights)
    else:
        raise UsageError("predictions and votes are of two kinds", expected="two tables or two arrays")
    used.check_enough(FAMILIES[method], force=force)
    calibration, _ = fit_rows(used, FAMILIES[method], seed)
    if not force:
        faults = alarm.fit_faults(calibration, used.probabilities, used.weights, has_ties=used.prior[2] > 0)
        alarm.refuse(faults, f"the {method} calibration")
    return calibration


__all__ = [
    "METHODS", "Calibration", "Document", "Estimate", "Result", "Rows", "Study",
    "apply_table", "fit", "is_equivariant", "join", "load", "save", "study", "uncalibrated", "undo",
]  # fmt: skip
