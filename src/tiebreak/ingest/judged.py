"""Tables that judges have written, and tables of labels alone: probabilities in columns of any name, no texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import predictions
from tiebreak.comparisons import LABEL, LABELS, TEXTS
from tiebreak.errors import DataError, UsageError

KAGGLE: Final = ("winner_model_a", "winner_model_b", "winner_tie")
ROUNDING: Final = 0.01
"""Rows whose three probabilities miss 1 by at most this were rounded when they were written; they are scaled to 1."""

SUFFIXES: Final = (".parquet", ".csv", ".jsonl", ".ndjson")

_LABEL_COLUMNS: Final = ("label", "weight", "group")


def read_file(path: Path) -> pl.DataFrame:
    """A parquet, CSV or JSONL file as it is, by its suffix.

    Raises:
        UsageError: The suffix is none of these.
        DataError: The file does not hold what its suffix says.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return pl.read_parquet(path)
        if suffix == ".csv":
            return pl.read_csv(path, schema_overrides={"id": pl.String}, infer_schema_length=10_000)
        if suffix in {".jsonl", ".ndjson"}:
            return pl.read_ndjson(path, infer_schema_length=10_000)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DataError(f"{path}: {error}", expected=f"a {suffix[1:]} file") from error
    raise UsageError(f"{path}: the suffix {suffix!r} names no format", expected=f"one of {', '.join(SUFFIXES)}")


def prediction_table(
    frame: pl.DataFrame, columns: Sequence[str] | None = None, *, where: str
) -> tuple[pl.DataFrame, int]:
    """A validated prediction table, and how many rows had to be scaled to sum 1.

    Args:
        frame: Has `id` and the three columns of probabilities.
        columns: Their names in the order a, b, tie; by default p_a, p_b, p_tie, or those of a Kaggle submission.
        where: Name of the file, for messages.

    Raises:
        DataError: A column is missing, or rows do not hold three probabilities.
    """
    names = list(columns or (predictions.PROBABILITIES if "p_a" in frame.columns else KAGGLE))
    missing = [name for name in ("id", *names) if name not in frame.columns]
    if missing:
        raise DataError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing",
            expected=f"id and three columns of probabilities; there are {', '.join(frame.columns)}",
            mend="--columns NAME_OF_A,NAME_OF_B,NAME_OF_TIE",
        )
    total = pl.sum_horizontal(pl.col(names).cast(pl.Float64, strict=False))
    off = (total - 1).abs()
    near = (off > 1e-6) & (off <= ROUNDING)
    ledger = predictions.LEDGER if set(predictions.LEDGER) <= set(frame.columns) else ()
    own = [name for name in ("swap_gap", "truncated", *ledger) if columns is None and name in frame.columns]
    scaled = frame.select(
        pl.col("id").cast(pl.String),
        *(
            pl.when(near).then(pl.col(name).cast(pl.Float64, strict=False) / total)
            .otherwise(pl.col(name).cast(pl.Float64, strict=False)).alias(target)
            for name, target in zip(names, predictions.PROBABILITIES, strict=True)
        ),
        *own,
    )  # fmt: skip
    return predictions.validate(scaled, where=where), int(frame.select(near.sum()).item() or 0)


def has_texts(frame: pl.DataFrame) -> bool:
    """Whether a file holds comparisons with texts, or only ids and labels."""
    return not ({"id", "label"} <= set(frame.columns) or {"id", *KAGGLE} <= set(frame.columns)) or bool(
        set(TEXTS) & set(frame.columns)
    )


def label_table(frame: pl.DataFrame, *, where: str) -> pl.DataFrame:
    """Ids and labels, with `weight` and `group` where the file has them.

    Raises:
        DataError: The labels are the verdicts of a judge, or one of them is unknown.
    """
    if {"swap_gap", "truncated"} <= set(frame.columns):
        raise DataError(
            f"{where} is a table of predictions: its labels are the verdicts of a judge",
            expected="the file of votes that people gave",
            mend="--labels VOTES",
        )
    if "label" not in frame.columns:
        frame = frame.with_columns(_from_one_hot(frame, where))
    kept = frame.select(
        pl.col("id").cast(pl.String), *(pl.col(name) for name in _LABEL_COLUMNS if name in frame.columns)
    )
    unknown = kept["label"].cast(pl.String).is_in(list(LABELS)).not_().fill_null(value=False).arg_true()
    if len(unknown):
        row = int(unknown[0])
        raise DataError(
            f"{where}, row {row + 1}: unknown label {kept['label'][row]!r} ({len(unknown)} such rows)",
            expected=f"one of {', '.join(LABELS)} or null",
        )
    casts = {"label": LABEL, "weight": pl.Float64(), "group": pl.String()}
    return kept.with_columns(pl.col(name).cast(dtype) for name, dtype in casts.items() if name in kept.columns)


def _from_one_hot(frame: pl.DataFrame, where: str) -> pl.Series:
    votes = frame.select(pl.col(name).cast(pl.Float64, strict=False) for name in KAGGLE)
    good = votes.select(
        (pl.sum_horizontal(KAGGLE) == 1) & pl.all_horizontal(pl.col(name).is_in([0.0, 1.0]) for name in KAGGLE)
    ).to_series().fill_null(value=False)  # fmt: skip
    if not good.all():
        row = int(good.not_().arg_true()[0])
        raise DataError(f"{where}, row {row + 1}: {', '.join(KAGGLE)} = {votes.row(row)}", expected="exactly one 1")
    return pl.Series("label", [LABELS[k] for k in votes.to_numpy().argmax(axis=1)], dtype=LABEL)
