"""Which of the votes that were read are used, and what each weighs."""

from __future__ import annotations

import polars as pl

from tiebreak.train.finetune.recipe import Recipe


def weighted(votes: pl.DataFrame, recipe: Recipe) -> tuple[pl.DataFrame, list[str]]:
    """The rows that the recipe uses, in their order, with their weights; and what was done, in plain words.

    Args:
        votes: Comparisons; the source of the first row is the target, rows of other sources support it.
        recipe: Its `data.support_weight`, `data.limit` and `seed` decide.
    """
    notes = []
    limit, support = recipe.data.limit, recipe.data.support_weight
    target = votes["source"][0] if votes.height else None
    if limit is not None and votes.height > limit:
        notes.append(f"rows left out by data.limit: {votes.height - limit:,}")
        rows = votes.with_row_index("row").sample(limit, seed=recipe.seed).sort("row")
        votes = rows.drop("row")
    if support != 1 and votes.height:
        supporting = pl.col("source").ne_missing(target)
        count = votes.select(supporting.sum()).item()
        notes.append(f"rows of supporting files, with weight {support:g}: {count:,}")
        weight = pl.col("weight").fill_null(1.0)
        votes = votes.with_columns(weight=pl.when(supporting).then(weight * support).otherwise(weight))
    return votes, notes
