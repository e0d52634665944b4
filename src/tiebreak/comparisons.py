"""The table that goes in: comparisons of two answers to one prompt.

One row is one comparison. `prompt`, `response_a` and `response_b` are lists of strings, one item a turn, of equal
length; an item may be null where an answer is missing. `label` says which answer a person preferred, or is null.
A table is validated once, at the door, by `validate`; every other room relies on that.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import polars as pl

from tiebreak.errors import DataError

Labels = tuple[str, str, str]
LABELS: Final[Labels] = ("a", "b", "tie")
"""The classes, in the order of every probability vector in this package."""

TURNS: Final = pl.List(pl.String)
LABEL: Final = pl.Enum(LABELS)

SCHEMA: Final[dict[str, pl.DataType]] = {
    "id": pl.String(),
    "prompt": TURNS,
    "response_a": TURNS,
    "response_b": TURNS,
    "model_a": pl.String(),
    "model_b": pl.String(),
    "label": LABEL,
    "p_a": pl.Float64(),
    "p_b": pl.Float64(),
    "p_tie": pl.Float64(),
    "weight": pl.Float64(),
    "group": pl.String(),
    "fold": pl.Int64(),
    "source": pl.String(),
}
"""Column names, types and order. Columns beyond these are not carried."""

REQUIRED: Final = ("id", "prompt", "response_a", "response_b")
TEXTS: Final = ("prompt", "response_a", "response_b")
SOFT: Final = ("p_a", "p_b", "p_tie")

_MIRROR: Final = {
    "response_a": "response_b",
    "response_b": "response_a",
    "model_a": "model_b",
    "model_b": "model_a",
    "p_a": "p_b",
    "p_b": "p_a",
}


def validate(frame: pl.DataFrame, *, where: str = "comparisons") -> pl.DataFrame:
    """Check a table and bring it to `SCHEMA`: optional columns appear as nulls, types are cast, order is fixed.

    Args:
        frame: A table with at least the columns of `REQUIRED`.
        where: Name of the file or table, for messages.

    Raises:
        DataError: A column is missing or of a wrong type, turn counts differ, a label is unknown, or a soft label or
            weight is not usable. The message names the first such row.
    """
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise DataError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing",
            expected=f"the columns {', '.join(REQUIRED)}",
            mend=f"tiebreak data import {where} -o votes.parquet --map prompt=YOUR_COLUMN",
        )
    columns: list[pl.Expr | pl.Series] = []
    for name, dtype in SCHEMA.items():
        if name not in frame.columns:
            columns.append(pl.lit(None, dtype=dtype).alias(name))
        else:
            columns.append(_cast(frame, name, dtype, where).alias(name))
    table = frame.select(columns)
    _check_rows(table, where)
    return table


def _cast(frame: pl.DataFrame, name: str, dtype: pl.DataType, where: str) -> pl.Series:
    try:
        return frame[name].cast(dtype)
    except pl.exceptions.PolarsError as error:
        if name != "label":
            raise DataError(f"{where}: column {name} has type {frame[name].dtype}", expected=f"{dtype}") from error
        unknown = frame[name].cast(pl.String).is_in(list(LABELS)).not_().fill_null(value=False)
        row = int(unknown.arg_true()[0])
        raise DataError(
            f"{where}, row {row + 1}: unknown label {frame[name][row]!r}",
            expected=f"one of {', '.join(LABELS)} or null",
        ) from error


def _check_rows(table: pl.DataFrame, where: str) -> None:
    soft_given = pl.any_horizontal(pl.col(SOFT).is_not_null())
    soft_good = (
        pl.all_horizontal(pl.col(SOFT).is_not_null() & pl.col(SOFT).is_finite() & (pl.col(SOFT) >= 0))
        & ((pl.sum_horizontal(SOFT) - 1).abs() < 1e-6)
    )  # fmt: skip
    turns = pl.col("prompt").list.len()
    rules = {
        "id is null": pl.col("id").is_null(),
        "prompt is null or has no turn": pl.col("prompt").is_null() | (turns == 0),
        "response_a has not as many turns as prompt": (pl.col("response_a").list.len() != turns).fill_null(True),
        "response_b has not as many turns as prompt": (pl.col("response_b").list.len() != turns).fill_null(True),
        "p_a, p_b, p_tie are not three probabilities with sum 1": soft_given & soft_good.not_().fill_null(True),
        "weight is not a finite number >= 0": pl.col("weight").is_not_null()
        & (pl.col("weight").is_finite() & (pl.col("weight") >= 0)).not_(),
    }
    broken = table.select(rule.alias(name) for name, rule in rules.items())
    for name in rules:
        rows = broken[name].arg_true()
        if len(rows):
            row = int(rows[0])
            raise DataError(
                f"{where}, row {row + 1} (id {table['id'][row]!r}): {name}"
                + (f" ({len(rows)} such rows)" if len(rows) > 1 else ""),
                expected="lists of equal length, one item a turn; see docs/data.md",
            )


def characters(name: str) -> pl.Expr:
    """Characters of a column of texts, over all turns; a null has none."""
    return pl.col(name).list.eval(pl.element().str.len_chars()).list.sum().fill_null(0)


def swap(frame: pl.DataFrame) -> pl.DataFrame:
    """The swapped twin of every row: answers, models, labels and soft labels change sides; ids stay."""
    mirrored_label = (
        pl.when(pl.col("label") == "a").then(pl.lit("b")).when(pl.col("label") == "b").then(pl.lit("a"))
        .otherwise(pl.col("label").cast(pl.String)).cast(LABEL).alias("label")
    )  # fmt: skip
    return frame.with_columns(mirrored_label, *(pl.col(source).alias(target) for target, source in _MIRROR.items()))


def targets(frame: pl.DataFrame) -> np.ndarray:
    """What to learn or to score against: the soft label where there is one, else the one-hot label.

    Returns:
        float64 array of shape (rows, 3) in the order of `LABELS`; rows without any label are NaN.
    """
    soft = frame.select(SOFT).to_numpy().astype(np.float64)
    codes = frame["label"].to_physical().cast(pl.Float64).to_numpy()
    hard = np.full((frame.height, 3), np.nan)
    known = ~np.isnan(codes)
    hard[known] = np.eye(3)[codes[known].astype(np.int64)]
    return np.where(np.isnan(soft).any(axis=1, keepdims=True), hard, soft)


def fingerprint(frame: pl.DataFrame) -> str:
    """A sha256 of the texts and labels, row by row in order: the identity of a data set in cards and bundles."""
    digest = hashlib.sha256()
    for batch in frame.select(*REQUIRED, "label").iter_slices(10_000):
        digest.update(batch.write_ndjson().encode())
    return digest.hexdigest()
