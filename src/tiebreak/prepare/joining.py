"""Which rows must stay together: the connected components of equal and nearly equal texts.

Rows are joined when their normalised prompts are equal, when their normalised unordered answer pairs are equal, or when
prompts or pairs are near-duplicates. A model trained on one row of a group knows something about the others, so that a
group never stands on both sides of a split.

What must not join everything: an empty prompt joins no rows; a pair of answers that stands under more than
`COMMON_PAIR` different prompts ("Yes" and "No") joins no rows; boilerplate is left out of likeness (see `near`); pairs
with fewer than `PAIR_SHINGLES` shingles are compared for equality only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons
from tiebreak.errors import UsageError
from tiebreak.prepare import near as likeness
from tiebreak.prepare import texts
from tiebreak.prepare.components import components, equal

COMMON_PAIR: Final = 20
PAIR_SHINGLES: Final = 10
THRESHOLD: Final = 0.8
"""Jaccard similarity of shingles from which two texts are near-duplicates."""

_LARGEST: Final = 5
Words = Callable[[pl.DataFrame], tuple[likeness.Shingles, int]]


@dataclass(frozen=True)
class Grouping:
    """Groups of rows, and how they came about.

    Attributes:
        group: The name of each row's group, made of the texts in it: the same for any order of rows and sides.
        left: How many groups are left after each step, from rows on their own to the last kind of join.
        largest: The largest groups as (name, rows, different prompts).
        common_pairs: Answer pairs that stand under too many prompts to join rows.
        boilerplate: Shingles left out because they stand in very many texts.
    """

    group: pl.Series
    left: dict[str, int]
    largest: list[tuple[str, int, int]]
    common_pairs: int
    boilerplate: int

    def as_dict(self) -> dict[str, Any]:
        """The counts, for JSON."""
        return {
            "rows": len(self.group),
            "groups": self.group.n_unique(),
            "groups_after": self.left,
            "largest": [{"group": name, "rows": rows, "prompts": prompts} for name, rows, prompts in self.largest],
            "common_pairs": self.common_pairs,
            "boilerplate_shingles": self.boilerplate,
        }


def groups(
    frame: pl.DataFrame, *, near: bool = True, threshold: float = THRESHOLD, keep_given: bool = True
) -> pl.Series:
    """The group of each row, as a string; rows that share or nearly share texts have one group.

    Args:
        frame: Comparisons.
        near: Join near-duplicates too, not only equal texts.
        threshold: Jaccard similarity from which texts are near-duplicates.
        keep_given: Rows that already share a value in the column `group` stay together.
    """
    return grouping(frame, near=near, threshold=threshold, keep_given=keep_given).group


def grouping(
    frame: pl.DataFrame, *, near: bool = True, threshold: float = THRESHOLD, keep_given: bool = True
) -> Grouping:
    """As `groups`, with the counts."""
    check_threshold(threshold)
    table = comparisons.validate(frame)
    wording = texts.normalised(table)
    keys = texts.keys(wording)
    pairs, common = telling_pairs(keys)
    joins = {"same row": equal(keys["row"]), "same prompt": equal(keys["prompt"]), "same pair": equal(pairs)}
    if keep_given:
        joins = {"given group": equal(table["group"]), **joins}
    root = np.arange(table.height)
    left = {"rows": table.height}
    for kind, edges in joins.items():
        root = components(table.height, *edges, start=root)
        left[kind] = len(np.unique(root))
    boilerplate = 0
    if near:
        kinds = {"near prompt": (keys["prompt"], asked), "near pair": (pairs, answers)}
        for kind, (key, words) in kinds.items():
            root, skipped = _join_near(root, wording, key, words, threshold)
            left[kind] = len(np.unique(root))
            boilerplate += skipped
    names = _names(root, keys)
    return Grouping(names, left, _largest(names, keys), common, boilerplate)


def check_threshold(threshold: float) -> None:
    """Refuse a similarity that nothing or everything reaches."""
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold}", expected="a similarity above 0 and up to 1, such as 0.8")


def telling_pairs(keys: pl.DataFrame) -> tuple[pl.Series, int]:
    """The pair keys without those that stand under too many prompts, and how many such pairs there are."""
    prompts = keys.group_by("pair").agg(pl.col("prompt").drop_nulls().n_unique())
    common = prompts.filter(pl.col("pair").is_not_null() & (pl.col("prompt") > COMMON_PAIR))["pair"]
    told = pl.when(pl.col("pair").is_in(common.implode()).not_()).then("pair").alias("pair")
    return keys.select(told)["pair"], len(common)


def asked(wording: pl.DataFrame) -> tuple[likeness.Shingles, int]:
    """The shingles of prompts, without boilerplate."""
    return likeness.without_boilerplate(likeness.shingle(wording["asked"]))


def answers(wording: pl.DataFrame) -> tuple[likeness.Shingles, int]:
    """The shingles of both answers together, without boilerplate and without pairs too short to tell."""
    told, skipped = likeness.without_boilerplate(likeness.shingle(wording["a"], wording["b"]))
    return likeness.at_least(told, PAIR_SHINGLES), skipped


def _join_near(
    root: np.ndarray, wording: pl.DataFrame, key: pl.Series, words: Words, threshold: float
) -> tuple[np.ndarray, int]:
    # Distinct texts in the order of their digests: the result does not depend on the order of rows.
    distinct = pl.DataFrame({"key": key}).with_row_index("row").drop_nulls().unique("key", keep="first").sort("key")
    rows = distinct["row"].to_numpy().astype(np.int64)
    shingles, skipped = words(wording[rows])
    for found in likeness.candidates(shingles, threshold):
        apart = root[rows[found[0]]] != root[rows[found[1]]]
        one, other = found[0][apart], found[1][apart]
        alike = likeness.jaccard(shingles, one, other) >= threshold
        root = components(len(root), rows[one[alike]], rows[other[alike]], start=root)
    return root, skipped


def _names(root: np.ndarray, keys: pl.DataFrame) -> pl.Series:
    named = pl.DataFrame({"root": root, "row": keys["row"]})
    return named.select((pl.lit("g") + pl.col("row").min().over("root").str.head(16)).alias("group"))["group"]


def _largest(names: pl.Series, keys: pl.DataFrame) -> list[tuple[str, int, int]]:
    sizes = (
        pl.DataFrame({"group": names, "prompt": keys["prompt"]})
        .group_by("group")
        .agg(pl.len().alias("rows"), pl.col("prompt").n_unique().alias("prompts"))
        .sort(["rows", "group"], descending=[True, False])
    )
    return list(sizes.filter(pl.col("rows") > 1).head(_LARGEST).iter_rows())
