"""Probabilities held against votes: figures, and their intervals. What training, calibration and evaluation share."""

from __future__ import annotations

from tiebreak.scoring.bootstrap import Bootstrap, Estimate, interval
from tiebreak.scoring.metrics import (
    accuracy,
    brier,
    classwise_ece,
    confusion,
    decisive_accuracy,
    ece,
    log_loss,
    macro_f1,
    row_brier,
    row_hits,
    row_log_loss,
)

__all__ = [
    "Bootstrap",
    "Estimate",
    "accuracy",
    "brier",
    "classwise_ece",
    "confusion",
    "decisive_accuracy",
    "ece",
    "interval",
    "log_loss",
    "macro_f1",
    "row_brier",
    "row_hits",
    "row_log_loss",
]
