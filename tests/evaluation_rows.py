"""Votes and predictions of our own making for the tests of evaluation."""

from __future__ import annotations

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions

TEXT = "the river is long and what you see from here can be of use to all"
WORDS = TEXT.split()


def votes(rows: int = 120, *, seed: int = 0, groups: int | None = None, ties: bool = True) -> pl.DataFrame:
    """Varied comparisons; longer answers win somewhat more often."""
    rng = np.random.default_rng(seed)
    size = rng.integers(3, 60, (rows, 2))
    pull = (size[:, 0] - size[:, 1]) / 40 + rng.logistic(size=rows)
    label = np.where(np.abs(pull) < (0.6 if ties else 0), "tie", np.where(pull > 0, "a", "b"))
    number = rng.integers(groups, size=rows) if groups else np.arange(rows)
    turns = rng.integers(1, 4, rows)
    text = [[" ".join(rng.choice(WORDS, n)) for n in pair] for pair in size]
    frame = pl.DataFrame(
        {
            "id": [f"v{k}" for k in range(rows)],
            "prompt": [[f"Question {number[k]} about the river"] * turns[k] for k in range(rows)],
            "response_a": [[text[k][0]] * turns[k] for k in range(rows)],
            "response_b": [[text[k][1]] * turns[k] for k in range(rows)],
            "model_a": rng.choice(["one", "two", "three"], rows),
            "model_b": rng.choice(["four", "five"], rows),
            "source": rng.choice(["here", "there"], rows),
            "label": label,
        }
    )
    return comparisons.validate(frame)


def judged(table: pl.DataFrame, *, seed: int = 0, skill: float = 1.0) -> pl.DataFrame:
    """Predictions that know the label a little."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(table.height, 3)) + skill * np.nan_to_num(comparisons.targets(table))
    return predictions.build(table["id"], predictions.softmax(logits))
