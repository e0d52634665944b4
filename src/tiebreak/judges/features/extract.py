"""The features of a whole table, for training."""

from __future__ import annotations

import numpy as np
import polars as pl

from tiebreak.judges.features.pairs import Features, features
from tiebreak.judges.features.slices import in_slices
from tiebreak.judges.features.texts import measure


def extract(table: pl.DataFrame) -> Features:
    """All features of a validated table of comparisons, at least one row."""
    parts = in_slices(lambda rows: features(measure(rows)), table)
    return Features(
        np.concatenate([part.signed for part in parts]),
        np.concatenate([part.symmetric for part in parts]),
        parts[0].signed_names,
        parts[0].symmetric_names,
    )
