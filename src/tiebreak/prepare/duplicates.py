"""Rows that stand in a table more than once, and the votes on them.

Two rows are the same row when their normalised prompts are equal and their normalised unordered answer pairs are equal.
The first of them stays, on its sides; a vote cast with the answers the other way round is turned before it is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.errors import UsageError
from tiebreak.prepare import texts
from tiebreak.prepare.joining import THRESHOLD, Grouping, grouping

Conflicts = Literal["keep-first", "majority", "soft"]

_VOTE: Final = ("label", *comparisons.SOFT)


@dataclass(frozen=True)
class DedupeReport:
    """What `dedupe` dropped and joined.

    Attributes:
        rows: Rows before.
        kept: Rows after.
        conflicting: Rows kept whose copies had different labels.
        relabelled: Rows kept whose label is another than the first copy's (or that had none).
        policy: How conflicting labels were settled.
        dropped: The ids of the rows dropped, in order.
        grouping: How the groups came about.
    """

    rows: int
    kept: int
    conflicting: int
    relabelled: int
    policy: Conflicts
    dropped: list[str]
    grouping: Grouping

    def as_dict(self) -> dict[str, Any]:
        """The counts and the ids, for JSON."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "dropped": self.rows - self.kept,
            "conflicting": self.conflicting,
            "relabelled": self.relabelled,
            "policy": self.policy,
            "grouping": self.grouping.as_dict(),
            "dropped_ids": self.dropped,
        }


def dedupe(
    frame: pl.DataFrame,
    *,
    conflicts: Conflicts = "keep-first",
    near: bool = True,
    threshold: float = THRESHOLD,
    keep_given: bool = True,
) -> tuple[pl.DataFrame, DedupeReport]:
    """Fill the column `group` and drop the rows that are there already.

    Args:
        frame: Comparisons.
        conflicts: What the row that stays says. `keep-first`: what the first labelled copy says. `majority`: the most
            frequent label; of several equally frequent ones the one that came first. `soft`: the shares of all votes as
            `p_a, p_b, p_tie`, each vote with its `weight` (1 where null), the largest share as `label`, and the sum of
            the weights as `weight`, so that training on the row equals training on all its copies.
        near: Near-duplicates share a group too. They are never dropped.
        threshold: Jaccard similarity from which texts are near-duplicates.
        keep_given: Rows that already share a `group` stay together.

    Returns:
        The rows that stay, in their order, and the report.
    """
    if conflicts not in get_args(Conflicts):
        raise UsageError(f"policy {conflicts!r} for conflicting labels", expected=", ".join(get_args(Conflicts)))
    table = comparisons.validate(frame)
    grouped = grouping(table, near=near, threshold=threshold, keep_given=keep_given)
    keys = texts.keys(texts.normalised(table))
    copies = _aligned(table.with_columns(grouped.group), keys)
    first = copies.filter(pl.col("row") == pl.col("first"))
    several = copies.filter(pl.len().over("first") > 1)
    settled = {"keep-first": _first, "majority": _majority, "soft": _soft}[conflicts](several)
    votes = first.select("row").join(settled, left_on="row", right_on="first", how="left", maintain_order="left")
    again = pl.col("row").is_in(several["first"].implode())
    changed = [pl.when(again).then(votes[name]).otherwise(pl.col(name)).alias(name) for name in settled.columns[1:]]
    kept = first.with_columns(changed).select(comparisons.SCHEMA.keys())
    report = DedupeReport(
        rows=table.height,
        kept=kept.height,
        conflicting=int(several.group_by("first").agg(pl.col("label").drop_nulls().n_unique() > 1)["label"].sum()),
        relabelled=int(kept["label"].ne_missing(first["label"]).sum()),
        policy=conflicts,
        dropped=copies.filter(pl.col("row") != pl.col("first"))["id"].to_list(),
        grouping=grouped,
    )
    return kept, report


def _aligned(table: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """The table with `row`, `first` (the first copy's row), and every vote on the sides of the first copy."""
    numbered = pl.DataFrame({"key": keys["row"], "side": keys["side"]}).with_row_index("row").with_columns(
        pl.col("row").first().over("key").alias("first"), pl.col("side").first().over("key").alias("first_side")
    )  # fmt: skip
    turned = (numbered["side"] * numbered["first_side"]) == -1
    mirrored = comparisons.swap(table)
    votes = [pl.when(turned).then(mirrored[name]).otherwise(table[name]).alias(name) for name in _VOTE]
    return table.with_columns(votes).with_columns(numbered["row"], numbered["first"])


def _first(several: pl.DataFrame) -> pl.DataFrame:
    voted = pl.col("label").is_not_null() | pl.col("p_a").is_not_null()
    return several.filter(voted).group_by("first", maintain_order=True).first().select("first", *_VOTE)


def _majority(several: pl.DataFrame) -> pl.DataFrame:
    counted = several.filter(pl.col("label").is_not_null()).with_columns(pl.len().over("first", "label").alias("votes"))
    most = counted.sort(["votes", "row"], descending=[True, False]).group_by("first", maintain_order=True).first()
    unlabelled = several.join(most, on="first", how="anti")
    return pl.concat([most.select("first", *_VOTE), _first(unlabelled)])


def _soft(several: pl.DataFrame) -> pl.DataFrame:
    shares = comparisons.targets(several)
    weight = several["weight"].fill_null(1.0).to_numpy()
    voted = ~np.isnan(shares).any(axis=1) & (weight > 0)
    votes = pl.DataFrame({"first": several["first"], "weight": weight}).with_columns(
        pl.Series(name, shares[:, place] * weight) for place, name in enumerate(comparisons.SOFT)
    )
    summed = votes.filter(voted).group_by("first", maintain_order=True).sum()
    merged = summed.with_columns(pl.col(name) / pl.col("weight") for name in comparisons.SOFT)
    label = predictions.labels(merged.select(comparisons.SOFT).to_numpy())
    return merged.with_columns(label).select("first", *_VOTE, "weight")
