"""What training sees of a whole table: all features, and the terms of every answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from tiebreak.judges.features.pairs import Features, features
from tiebreak.judges.features.slices import in_slices
from tiebreak.judges.features.texts import measure
from tiebreak.judges.features.wording import Terms, Vocabulary


def extract(table: pl.DataFrame, vocabulary: Vocabulary) -> tuple[Features, tuple[Terms, Terms]]:
    """All features of a validated table of comparisons, and how often each term stands in answer A and in answer B."""

    def work(rows: pl.DataFrame) -> tuple[Features, list[Terms]]:
        measured = measure(rows)
        return features(measured), [vocabulary.count(tokens) for tokens in measured.tokens]

    parts = in_slices(work, table)
    found = Features(
        np.concatenate([part.signed for part, _ in parts]),
        np.concatenate([part.symmetric for part, _ in parts]),
    )
    first, second = (_below([terms[side] for _, terms in parts]) for side in (0, 1))
    return found, (first, second)


def _below(parts: Sequence[Terms]) -> Terms:
    """The rows of several matrices below one another."""
    heights = np.array([part.height for part in parts])
    starts = np.cumsum(heights) - heights
    return Terms(
        np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.terms for part in parts]),
        np.concatenate([part.values for part in parts]),
        int(heights.sum()),
    )
