"""What one table knows of another: rows of a test set whose prompt or answers stand in the training set too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons
from tiebreak.prepare import joining, texts
from tiebreak.prepare import near as likeness
from tiebreak.prepare.joining import THRESHOLD

KINDS: Final = ("same prompt", "same pair", "near prompt", "near pair")

MATCHES: Final = {
    "row": pl.Int64(), "id": pl.String(), "kind": pl.String(), "left_row": pl.Int64(), "left_id": pl.String(),
    "similarity": pl.Float64(),
}  # fmt: skip


@dataclass(frozen=True)
class OverlapReport:
    """The rows of the right table that the left table knows.

    Attributes:
        left_rows: Rows of the left table.
        right_rows: Rows of the right table.
        counts: For each kind of likeness, how many rows of the right table are concerned.
        matches: One line for each such row and kind: the row of the right table (from 0), its id, the kind, the most
            similar row of the left table (the first of several), its id, and their Jaccard similarity.
    """

    left_rows: int
    right_rows: int
    counts: dict[str, int]
    matches: pl.DataFrame

    @property
    def rows(self) -> list[int]:
        """The numbers (from 0) of the rows of the right table that overlap."""
        return self.matches["row"].unique().sort().to_list()

    @property
    def ids(self) -> list[str]:
        """The ids of those rows, in order."""
        return self.matches.unique("row", keep="first", maintain_order=True).sort("row")["id"].to_list()

    def drop(self, right: pl.DataFrame) -> pl.DataFrame:
        """The right table without the rows that overlap."""
        known = pl.Series(self.rows, dtype=pl.Int64)
        return right.filter(~pl.int_range(right.height, eager=True).is_in(known.implode()))

    def as_dict(self, *, examples: int | None = None) -> dict[str, Any]:
        """The counts and the matches (at most `examples` of each kind), for JSON."""
        shown = self.matches if examples is None else self.matches.group_by("kind", maintain_order=True).head(examples)
        return {
            "left_rows": self.left_rows,
            "right_rows": self.right_rows,
            "overlapping": len(self.rows),
            "counts": self.counts,
            "matches": shown.select(MATCHES.keys()).to_dicts(),
            "drop_ids": self.ids,
        }


def overlap(
    left: pl.DataFrame, right: pl.DataFrame, *, near: bool = True, threshold: float = THRESHOLD
) -> OverlapReport:
    """Find the rows of `right` whose prompt or unordered answer pair equals or nearly equals one in `left`.

    A row counts as `near` only where it is not the same. What joins no rows into a group (empty texts, answer pairs
    common to very many prompts, boilerplate; see `joining`) is no overlap either; for that, both tables are looked at
    together.

    Args:
        left: For example the training rows.
        right: For example the test rows.
        near: Look for near-duplicates too.
        threshold: Jaccard similarity from which texts are near-duplicates.
    """
    joining.check_threshold(threshold)
    both = pl.concat([comparisons.validate(left, where="left"), comparisons.validate(right, where="right")])
    wording = texts.normalised(both)
    keys = texts.keys(wording)
    pairs, _ = joining.telling_pairs(keys)
    found = []
    for what, key, words in (("prompt", keys["prompt"], joining.asked), ("pair", pairs, joining.answers)):
        rows = pl.DataFrame({"key": key, "row": np.arange(both.height)}).drop_nulls("key")
        ours, theirs = rows.filter(pl.col("row") >= left.height), rows.filter(pl.col("row") < left.height)
        first = theirs.group_by("key").agg(pl.col("row").min().alias("left_row"))
        same = ours.join(first, on="key").with_columns(pl.lit(1.0).alias("similarity"))
        found.append(same.with_columns(pl.lit(f"same {what}").alias("kind")))
        if near:
            alike = _near(rows.unique("key", keep="first").sort("key"), wording, words, threshold, first, ours)
            fresh = alike.join(same.select("key"), on="key", how="anti")
            found.append(fresh.with_columns(pl.lit(f"near {what}").alias("kind")))
    matches = (
        pl.concat(table.select("row", "kind", "left_row", "similarity") for table in found)
        .with_columns(
            pl.col("row") - left.height,
            both["id"].gather(pl.concat(table["row"] for table in found)).alias("id"),
            both["id"].gather(pl.concat(table["left_row"] for table in found)).alias("left_id"),
        )
        .sort("row", "kind")
        .select(pl.col(name).cast(dtype) for name, dtype in MATCHES.items())
    )
    counts = {kind: int((matches["kind"] == kind).sum()) for kind in KINDS if near or kind.startswith("same")}
    return OverlapReport(left.height, right.height, counts, matches)


def _near(
    distinct: pl.DataFrame,
    wording: pl.DataFrame,
    words: Callable[[pl.DataFrame], tuple[likeness.Shingles, int]],
    threshold: float,
    first: pl.DataFrame,
    ours: pl.DataFrame,
) -> pl.DataFrame:
    """For each row of the right table the most similar left row, as `row, key, left_row, similarity`."""
    shingles, _ = words(wording[distinct["row"].to_numpy()])
    key = distinct["key"]
    on_left, on_right = (key.is_in(side["key"].implode()).to_numpy() for side in (first, ours))
    edges = []
    for low, high in likeness.candidates(shingles, threshold):
        one, other = np.concatenate([low, high]), np.concatenate([high, low])
        crossing = on_left[one] & on_right[other]
        one, other = one[crossing], other[crossing]
        similarity = likeness.jaccard(shingles, one, other)
        alike = similarity >= threshold
        edges.append(pl.DataFrame({"one": one[alike], "other": other[alike], "similarity": similarity[alike]}))
    schema = {"one": pl.Int64(), "other": pl.Int64(), "similarity": pl.Float64()}
    known = pl.concat([pl.DataFrame(schema=schema), *edges])
    best = (
        known.select(
            key.gather(known["one"]).alias("left_key"), key.gather(known["other"]).alias("key"), pl.col("similarity")
        )
        .join(first, left_on="left_key", right_on="key")
        .sort(["similarity", "left_row"], descending=[True, False])
        .unique("key", keep="first", maintain_order=True)
    )
    return ours.join(best, on="key").select("row", "key", "left_row", "similarity")
