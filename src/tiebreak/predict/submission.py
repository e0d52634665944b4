"""A Kaggle submission: `id, winner_model_a, winner_model_b, winner_tie`, checked before it is called done."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tiebreak import predictions
from tiebreak.errors import DataError

COLUMNS: Final = {"p_a": "winner_model_a", "p_b": "winner_model_b", "p_tie": "winner_tie"}
HEADER: Final = ["id", *COLUMNS.values()]


def build(table: pl.DataFrame) -> pl.DataFrame:
    """The submission for a prediction table, row by row.

    Raises:
        DataError: An id occurs twice: Kaggle refuses such a file.
    """
    twice = table["id"].is_duplicated()
    if twice.any():
        raise DataError(
            f"{int(twice.sum())} rows share an id with another row (for example {table['id'].filter(twice)[0]!r})",
            expected="each id once in a Kaggle submission",
            mend="--format csv keeps them all; tiebreak data dedupe removes repeated votes",
        )
    return table.select("id", *predictions.PROBABILITIES).rename(COLUMNS)


def check(path: Path, table: pl.DataFrame, sample: Path | None = None, *, name: str = "") -> None:
    """Read a written submission back and hold it against the predictions and the sample submission.

    Args:
        path: The file as written.
        table: The predictions that it should hold.
        sample: A sample submission: its columns and ids are what Kaggle expects.
        name: What to call the file in messages.

    Raises:
        DataError: Header, ids or probabilities are not what they should be.
    """
    name = name or str(path)
    written = _read(path)
    if written.columns != HEADER:
        raise DataError(f"{name}: columns {', '.join(written.columns)}", expected=", ".join(HEADER))
    p = written.select(pl.col(HEADER[1:]).cast(pl.Float64)).to_numpy()
    if not (np.isfinite(p).all() and (p >= 0).all() and (np.abs(p.sum(axis=1) - 1) < 1e-6).all()):
        raise DataError(f"{name}: a row is not three probabilities with sum 1", expected="finite numbers with sum 1")
    if not written["id"].equals(table["id"]):
        raise DataError(f"{name}: ids changed on the way to the file", expected="the ids of the input, in its order")
    if sample is not None:
        check_sample(written, sample)


def check_sample(written: pl.DataFrame, sample: Path) -> None:
    """Hold a submission's header and ids against a sample submission.

    Raises:
        DataError: Columns differ, or ids are missing or surplus; the message names the first.
    """
    wanted = _read(sample)
    if wanted.columns != written.columns:
        raise DataError(
            f"{sample}: columns {', '.join(wanted.columns)}",
            expected=f"the columns that --format kaggle writes: {', '.join(written.columns)}",
        )
    missing = wanted.join(written, on="id", how="anti")["id"]
    surplus = written.join(wanted, on="id", how="anti")["id"]
    for name, ids in (("missing from the submission", missing), ("not in the sample", surplus)):
        if len(ids):
            raise DataError(
                f"{len(ids)} ids are {name} (for example {ids[0]!r})",
                expected=f"exactly the {wanted.height} ids of {sample}",
                mend="tiebreak predict on the test file that belongs to this sample submission",
            )


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}", expected=f"a CSV with {', '.join(HEADER)}") from error
