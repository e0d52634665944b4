"""What held-out predictions are worth, source by source, for the manifest and the card."""

from __future__ import annotations

import numpy as np
from pydantic import JsonValue

from tiebreak.scoring.bootstrap import interval
from tiebreak.scoring.metrics import log_loss, row_hits, row_log_loss


def by_source(
    predicted: np.ndarray, targets: np.ndarray, source: np.ndarray, group: np.ndarray, *, seed: int
) -> dict[str, JsonValue]:
    """The figures of each source on its own, with 95 % intervals by group bootstrap.

    Args:
        predicted: Held-out probabilities, shape (repeats, rows, 3); each row counts with its mean over the repeats.
        targets: Shape (rows, 3).
        source: The source of each row.
        group: The group of each row, as integers.
        seed: Seed of the resampling.

    Returns:
        For each source `rows`, `log_loss` and `accuracy` (each value, low, high; null where one group alone leaves no
        interval), and `prior_log_loss`, what the source's own class shares reach.
    """
    loss = np.mean([row_log_loss(repeat, targets) for repeat in predicted], axis=0)
    hits = np.mean([row_hits(repeat, targets) for repeat in predicted], axis=0)
    figures: dict[str, JsonValue] = {}
    for name in dict.fromkeys(source.tolist()):
        rows = source == name
        prior = np.broadcast_to(targets[rows].mean(axis=0), (int(rows.sum()), 3))
        figures[str(name)] = {
            "rows": int(rows.sum()),
            "log_loss": _interval(loss[rows], group[rows], seed),
            "accuracy": _interval(hits[rows], group[rows], seed),
            "prior_log_loss": round(log_loss(prior, targets[rows]), 4),
        }
    return figures


def _interval(values: np.ndarray, group: np.ndarray, seed: int) -> list[JsonValue]:
    found = interval(values, group, seed=seed)
    return [None if np.isnan(bound) else round(bound, 4) for bound in (found.value, found.low, found.high)]


def shown(figure: list[float | None]) -> str:
    """For example "1.0130 [0.9864, 1.0376]"."""
    value, low, high = figure
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"
