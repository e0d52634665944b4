"""How good is a judge? Metrics with intervals, baselines, slices, audits, gates and a page that people can read."""

from __future__ import annotations

from tiebreak.evaluation.result import Evaluation
from tiebreak.evaluation.run import evaluate

__all__ = ["Evaluation", "evaluate"]
