"""Log-loss and accuracy of held-out predictions, with 95 % intervals that resample groups."""

from __future__ import annotations

from typing import Final

import numpy as np
from pydantic import JsonValue

from tiebreak.predictions import verdicts

_RESAMPLES: Final = 1000
_FLOOR: Final = 1e-15


def by_source(
    predicted: np.ndarray, targets: np.ndarray, source: np.ndarray, group: np.ndarray, *, seed: int
) -> dict[str, JsonValue]:
    """The figures of each source on its own.

    Args:
        predicted: Held-out probabilities, shape (repeats, rows, 3); losses are averaged over the repeats.
        targets: Shape (rows, 3).
        source: The source of each row.
        group: The group of each row, as integers.
        seed: Seed of the resampling.
    """
    loss = -(targets * np.log(np.clip(predicted, _FLOOR, None))).sum(axis=2).mean(axis=0)
    hits = np.stack([targets[np.arange(len(targets)), verdicts(repeat)] for repeat in predicted]).mean(axis=0)
    figures: dict[str, JsonValue] = {}
    for name in dict.fromkeys(source.tolist()):
        rows = source == name
        prior = targets[rows].mean(axis=0)
        figures[str(name)] = {
            "rows": int(rows.sum()),
            "log_loss": _interval(loss[rows], group[rows], seed),
            "accuracy": _interval(hits[rows], group[rows], seed),
            "prior_log_loss": round(float(-(prior * np.log(np.clip(prior, _FLOOR, None))).sum()), 4),
        }
    return figures


def _interval(values: np.ndarray, group: np.ndarray, seed: int) -> list[JsonValue]:
    """The mean and its 95 % interval by group bootstrap: value, low, high."""
    _, codes = np.unique(group, return_inverse=True)
    sums, sizes = np.bincount(codes, weights=values), np.bincount(codes)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(sums), size=len(sums)) for _ in range(_RESAMPLES))
    means = [sums[chosen].sum() / sizes[chosen].sum() for chosen in drawn]
    low, high = np.quantile(means, [0.025, 0.975])
    return [round(float(value), 4) for value in (values.mean(), low, high)]
