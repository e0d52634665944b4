"""What fewer bits cost: the compressed judge held against the one it was made of, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tiebreak.predictions import verdicts
from tiebreak.scoring import Estimate, interval, log_loss, row_log_loss
from tiebreak.scoring.metrics import FLOOR

LIMIT: Final = 0.005
"""The gate: nats of log-loss that compression may cost."""


@dataclass(frozen=True)
class Parity:
    """Two judges on the same rows.

    Attributes:
        rows: How many.
        labelled: How many of them have a vote; the losses are of these.
        log_loss: Of the original, in nats; None without votes.
        compressed_log_loss: Of the compressed one.
        change: Compressed minus original, with its 95 % interval by bootstrap over groups of rows, paired.
        kl: Mean of KL(original || compressed) over all rows, in nats, with its interval.
        verdict_changes: Rows whose likeliest outcome is another one.
        largest_change: Of any probability of any row.
    """

    rows: int
    labelled: int
    log_loss: float | None
    compressed_log_loss: float | None
    change: Estimate | None
    kl: Estimate
    verdict_changes: int
    largest_change: float

    @property
    def passed(self) -> bool:
        """Whether the log-loss grew by no more than `LIMIT`; without votes nothing speaks against it."""
        return self.change is None or self.change.value <= LIMIT

    def document(self) -> dict[str, Any]:
        """As a bundle and `--json` hold it; intervals as [value, low, high]."""
        return {
            **{name: getattr(self, name) for name in ("rows", "labelled", "log_loss", "compressed_log_loss")},
            "log_loss_change": None if self.change is None else _bounds(self.change),
            "kl": _bounds(self.kl),
            "verdict_changes": self.verdict_changes,
            "largest_change": self.largest_change,
        }


def measure(
    original: np.ndarray, compressed: np.ndarray, targets: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> Parity:
    """Compare probabilities of two judges.

    Args:
        original: float64 (rows, 3), order a, b, tie.
        compressed: Of the other judge, the same rows.
        targets: Hard or soft labels (rows, 3); NaN in rows without one.
        groups: The group of each row.
        weights: The weight of each row in the losses.
    """
    used = ~np.isnan(targets).any(axis=1) & (weights > 0)
    change = before = after = None
    if used.any():
        losses = [row_log_loss(p[used], targets[used]) for p in (original, compressed)]
        change = interval(losses[1] - losses[0], groups[used], weights=weights[used])
        before, after = (log_loss(p[used], targets[used], weights[used]) for p in (original, compressed))
    return Parity(
        rows=len(original), labelled=int(used.sum()), log_loss=before, compressed_log_loss=after, change=change,
        kl=interval(row_kl(original, compressed), groups),
        verdict_changes=int((verdicts(original) != verdicts(compressed)).sum()),
        largest_change=float(np.abs(original - compressed).max()),
    )  # fmt: skip


def row_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row, in nats: sum of p log(p / q), where p = 0 counts nothing and q is at least `FLOOR`."""
    ratio = np.log(np.clip(p, FLOOR, 1)) - np.log(np.clip(q, FLOOR, 1))
    kl: np.ndarray = np.maximum((p * ratio).sum(axis=1), 0)
    return kl


def _bounds(estimate: Estimate) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in (estimate.value, estimate.low, estimate.high)]
