"""Swapped twins: every comparison once more, the other way round."""

from __future__ import annotations

from typing import Final

import polars as pl

from tiebreak import comparisons

SUFFIX: Final = "#swapped"
"""What the id of a twin ends in."""


def twins(frame: pl.DataFrame) -> pl.DataFrame:
    """Each row followed by its swapped twin, which has the same group, fold and weight.

    A model that learns on both has no reason to prefer a side. Rows without a group get one by text, if that is wanted,
    from `groups` before or after: a twin always falls to its row's group.
    """
    table = comparisons.validate(frame).with_row_index("row")
    mirrored = comparisons.swap(table).with_columns(pl.col("id") + SUFFIX)
    # The sort is stable, so that of each pair the row itself comes first.
    return pl.concat([table, mirrored]).sort("row", maintain_order=True).drop("row")
