"""Made-up votes and the labels of made-up teachers, for the tests of audit, combine and mix."""

from __future__ import annotations

import numpy as np
import polars as pl

from tiebreak import comparisons, row_hashes, soft_labels
from tiebreak.comparisons import LABELS, SOFT
from tiebreak.predictions import softmax


def votes(rows: int, *, seed: int = 0, folds: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Comparisons whose votes were drawn from the probabilities that come with them; lengths tell nothing."""
    rng = np.random.default_rng(seed)
    truth = softmax(1.2 * rng.normal(size=(rows, 3)))
    drawn = (truth.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    lengths = rng.integers(1, 200, size=(rows, 2))
    table = pl.DataFrame(
        {
            "id": [f"r{k}" for k in rng.permutation(rows)],
            "prompt": [[f"question {seed} number {k}"] for k in range(rows)],
            "response_a": [[f"{k} " + "a" * int(lengths[k, 0])] for k in range(rows)],
            "response_b": [[f"{k} " + "b" * int(lengths[k, 1])] for k in range(rows)],
            "label": [LABELS[k] for k in drawn],
            "fold": [k % folds if folds else None for k in range(rows)],
        },
        schema_overrides={"fold": pl.Int64()},
    )
    return comparisons.validate(table), truth


def labels(table: pl.DataFrame, p: np.ndarray, **about: object) -> pl.DataFrame:
    """A table of soft labels, as `tiebreak teach label` writes them."""
    columns = {"teacher": "made", "revision": "f" * 16, "rendering": "r" * 16, "in_sample": False, "swap_gap": 0.0}
    columns |= {"truncated": False, "fold": None, **about}
    made = table.select("id").with_columns(
        row_hashes.content(table).alias("content"),
        *(pl.Series(name, p[:, k]) for k, name in enumerate(SOFT)),
        *(
            value.alias(name) if isinstance(value, pl.Series) else pl.lit(value).alias(name)
            for name, value in columns.items()
        ),
    )
    return soft_labels.validate(made)


def blurred(truth: np.ndarray, noise: float, *, sharpness: float = 1.0, seed: int = 1) -> np.ndarray:
    """What a teacher says that knows the truth through some noise."""
    rng = np.random.default_rng(seed)
    return softmax(sharpness * (np.log(truth) + noise * rng.normal(size=truth.shape)))


def summed_log_likelihoods(a: np.ndarray, b: np.ndarray, *, seed: int = 2) -> np.ndarray:
    """What S3 took for a teacher's logits: log-likelihoods summed over the tokens of each answer, a tie invented.

    About 2.5 nats a token, a token about 4 characters, each text a little easier or harder than another.

    Args:
        a: Characters of the first answer.
        b: Characters of the second.
        seed: Of the texts' difficulty.
    """
    rng = np.random.default_rng(seed)
    sums = [-(lengths / 4 + 1) * np.clip(rng.normal(2.5, 0.4, size=len(lengths)), 1, None) for lengths in (a, b)]
    return np.column_stack([*sums, (sums[0] + sums[1]) / 2])
