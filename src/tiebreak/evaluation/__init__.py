"""How good is a judge? Metrics with intervals, baselines, slices, audits, gates and a page that people can read."""

from __future__ import annotations

from tiebreak.evaluation.bootstrap import Bootstrap, Estimate, interval
from tiebreak.evaluation.metrics import (
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
from tiebreak.evaluation.result import Evaluation
from tiebreak.evaluation.run import evaluate

__all__ = [
    "Bootstrap",
    "Estimate",
    "Evaluation",
    "accuracy",
    "brier",
    "classwise_ece",
    "confusion",
    "decisive_accuracy",
    "ece",
    "evaluate",
    "interval",
    "log_loss",
    "macro_f1",
    "row_brier",
    "row_hits",
    "row_log_loss",
]
