"""Labels as they lie on disk, read leniently: what is wrong with them is for the audit to say, not for the reader."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tiebreak import predictions
from tiebreak.comparisons import SOFT
from tiebreak.errors import DataError, UsageError
from tiebreak.ingest import judged
from tiebreak.soft_labels import SCHEMA

_ABOUT: Final = tuple(name for name in SCHEMA if name not in ("id", *SOFT))


@dataclass(frozen=True)
class Labels:
    """The labels of one teacher.

    Attributes:
        table: `soft_labels.SCHEMA`; what the files do not say is null. Probabilities may be anything.
        logits: Shape (rows, 3) where the file holds logits; `table` then has their softmax.
        scaled: Rows whose probabilities were rounded when they were written, and were scaled to sum 1.
        foreign: Whether it is a table that tiebreak did not write.
        where: Names of the files, for messages.
        files: The files.
    """

    table: pl.DataFrame
    logits: np.ndarray | None = None
    scaled: int = 0
    foreign: bool = False
    where: str = "soft labels"
    files: tuple[Path, ...] = ()

    @property
    def teacher(self) -> str:
        """The teacher's name; several are joined."""
        return ", ".join(self.table["teacher"].unique().sort().cast(pl.String).fill_null("unknown"))


def expand(patterns: Sequence[str]) -> list[Path]:
    """Files and quoted globs as files, each once.

    Raises:
        UsageError: A name or a pattern stands for no file.
    """
    found: list[Path] = []
    for pattern in patterns:
        paths = [Path(pattern)] if Path(pattern).is_file() else [Path(name) for name in sorted(glob.glob(pattern))]
        if not paths:
            raise UsageError(
                f"{pattern}: no such file", expected="a table of labels, or a quoted pattern of its shards"
            )
        found += [path for path in paths if path not in found]
    return found


def read(
    files: Sequence[Path],
    *,
    columns: Sequence[str] | None = None,
    logits: Sequence[str] | None = None,
    name: str | None = None,
) -> Labels:
    """One teacher's labels out of one file, or out of its shards.

    Args:
        files: .parquet, .csv or .jsonl.
        columns: Names of the probabilities in the order a, b, tie, where they are not p_a, p_b, p_tie.
        logits: Names of three columns of logits instead.
        name: Of the teacher, where the files have no column `teacher`.

    Raises:
        DataError: A column is missing or holds no numbers.
    """
    where = ", ".join(str(path) for path in files)
    frame = pl.concat([judged.read_file(path) for path in files], how="diagonal_relaxed")
    names = list(logits or columns or SOFT)
    if missing := [column for column in ("id", *names) if column not in frame.columns]:
        raise DataError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing",
            expected=f"id and three columns of probabilities or logits; there are {', '.join(frame.columns)}",
            mend="--columns NAME_OF_A,NAME_OF_B,NAME_OF_TIE, or --logits for logits",
        )
    values = _numbers(frame, names, where)
    foreign = not {"content", "teacher"} <= set(frame.columns)
    p, scaled = (softmax(values), 0) if logits else _unrounded(values) if foreign or columns else (values, 0)
    table = frame.select(
        pl.col("id").cast(pl.String),
        *(pl.Series(column, p[:, k]) for k, column in enumerate(SOFT)),
        *(_about(frame, column, name or files[0].stem) for column in _ABOUT),
    ).select(SCHEMA.keys())
    return Labels(table, values if logits else None, scaled, foreign, where, tuple(files))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row; a row that is not finite stays so."""
    with np.errstate(invalid="ignore"):
        return predictions.softmax(logits)


def _numbers(frame: pl.DataFrame, names: Sequence[str], where: str) -> np.ndarray:
    try:
        return frame.select(pl.col(name).cast(pl.Float64) for name in names).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{where}: {', '.join(names)} are not all numbers: {error}", expected="three numbers"
        ) from error


def _unrounded(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows that miss sum 1 by a rounding scaled to it, as `judged.prediction_table` does, and how many."""
    total = values.sum(axis=1)
    rounded = (np.abs(total - 1) > 1e-6) & (np.abs(total - 1) <= judged.ROUNDING)
    return np.where(rounded[:, None], values / np.where(total == 0, 1, total)[:, None], values), int(rounded.sum())


def _about(frame: pl.DataFrame, column: str, name: str) -> pl.Expr:
    if column in frame.columns:
        return pl.col(column).cast(SCHEMA[column])
    return pl.lit(name if column == "teacher" else None, dtype=SCHEMA[column]).alias(column)
