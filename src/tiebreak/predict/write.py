"""Writing predictions in the form that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import storage
from tiebreak.errors import UsageError
from tiebreak.predict import forms, submission
from tiebreak.predict.forms import LMSYS, Submission

FORMATS: Final = ("parquet", "csv", "jsonl", "kaggle")
_BY_SUFFIX: Final = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def format_of(output: str, wanted: str = "auto") -> str:
    """The format to write: the one asked for, else by the suffix of the output; `-` is JSON lines.

    Raises:
        UsageError: The format is unknown, or neither it nor the suffix says what to write.
    """
    if wanted in FORMATS:
        return wanted
    if wanted != "auto":
        raise UsageError(f"unknown format {wanted!r}", expected=f"one of {', '.join(FORMATS)}")
    if output == "-":
        return "jsonl"
    suffix = Path(output).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise UsageError(
            f"{output}: the suffix {suffix!r} names no format",
            expected=f"one of {', '.join(_BY_SUFFIX)}, or --format {'|'.join(FORMATS)}",
        )
    return _BY_SUFFIX[suffix]


def write(
    table: pl.DataFrame, output: Path, form: str, sample: Path | None = None, kaggle: Submission | None = None
) -> None:
    """Write a prediction table to a file, whole or not at all; a Kaggle submission only if it is valid.

    Args:
        table: The predictions.
        output: The file.
        form: One of `FORMATS`.
        sample: A sample submission to hold a Kaggle submission against; its rows come in the order of the sample's.
        kaggle: The form of a Kaggle submission; by default that of the sample, or of LMSYS where there is none.

    Raises:
        DataError: A Kaggle submission would not be valid.
        ResourceError: The disk is full or the place cannot be written.
    """
    with storage.replacing(output) as aside:
        if form == "parquet":
            table.write_parquet(aside)
        elif form == "kaggle":
            _write_submission(table, aside, sample, kaggle, name=str(output))
        else:
            aside.write_text(text(table, form), encoding="utf-8", newline="")


def _write_submission(
    table: pl.DataFrame, path: Path, sample: Path | None, kaggle: Submission | None, *, name: str
) -> None:
    kaggle = kaggle or (LMSYS if sample is None else forms.recognise(sample))
    built = submission.build(table, kaggle)
    if sample is not None:
        built = submission.in_order_of(built, sample)
    built.write_csv(path)
    submission.check(path, built, kaggle, name=name)


def text(table: pl.DataFrame, form: str, *, header: bool = True, kaggle: Submission = LMSYS) -> str:
    """A prediction table as CSV, JSON lines or a Kaggle submission."""
    if form == "parquet":
        raise UsageError("parquet cannot be written to stdout", expected="csv, jsonl or kaggle", mend="--format csv")
    if form == "kaggle":
        return submission.build(table, kaggle).write_csv(include_header=header)
    return table.write_csv(include_header=header) if form == "csv" else table.write_ndjson()
