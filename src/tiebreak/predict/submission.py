"""A submission to Kaggle, in the form that its competition wants, checked before it is called done."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tiebreak import predictions
from tiebreak.comparisons import LABELS
from tiebreak.errors import DataError
from tiebreak.predict import forms
from tiebreak.predict.forms import LMSYS, Submission

HALVES: Final = {"p_a_without_tie": "p_a", "p_b_without_tie": "p_b"}
WHOLES: Final = (frozenset(predictions.PROBABILITIES), frozenset(HALVES))
"""Columns that sum to 1 where a submission has all of them."""


def build(table: pl.DataFrame, form: Submission = LMSYS) -> pl.DataFrame:
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
    columns = [_column(table, content, form).alias(name) for name, content in form.columns.items()]
    return pl.DataFrame([table["id"].alias(form.id), *columns])


def _column(table: pl.DataFrame, content: str, form: Submission) -> pl.Series:
    p = predictions.probabilities(table)
    if content in predictions.PROBABILITIES:
        return table[content]
    if content in HALVES:
        return table[HALVES[content]] + table["p_tie"] / 2
    # The halves of P(tie) are left out of the comparison: adding them could round a difference away.
    codes = predictions.verdicts(p) if content == "winner" else p[:, :2].argmax(axis=1)
    return pl.Series(np.array([form.labels[label] for label in LABELS])[codes], dtype=pl.String)


def in_order_of(built: pl.DataFrame, sample: Path) -> pl.DataFrame:
    """The rows of a submission in the order of the sample submission's ids.

    Raises:
        DataError: Columns differ, or ids are missing or surplus; the message names the first.
    """
    wanted = check_sample(built, sample)
    key = built.columns[0]
    return wanted.select(key).join(built, on=key, how="left", maintain_order="left")


def check(path: Path, built: pl.DataFrame, form: Submission = LMSYS, *, name: str = "") -> None:
    """Read a written submission back and hold it against what should be in it.

    Args:
        path: The file as written.
        built: What it should hold, from `build`.
        form: The form of the submission.
        name: What to call the file in messages.

    Raises:
        DataError: Header, ids, probabilities or winners are not what they should be.
    """
    name = name or str(path)
    written = forms.read(path)
    if written.columns != form.header:
        raise DataError(f"{name}: columns {', '.join(written.columns)}", expected=", ".join(form.header))
    if not written[form.id].equals(built[form.id].alias(form.id)):
        raise DataError(f"{name}: ids changed on the way to the file", expected="the ids of the input, each as it was")
    for column, content in form.columns.items():
        _check_column(name, written[column], built[column], content)
    for whole in WHOLES:
        columns = [column for column, content in form.columns.items() if content in whole]
        if len(columns) == len(whole):
            _check_sums(name, written.select(pl.col(columns).cast(pl.Float64)).to_numpy())


def _check_column(name: str, written: pl.Series, built: pl.Series, content: str) -> None:
    if content.startswith("winner"):
        if not written.equals(built):
            raise DataError(f"{name}: winners of {written.name} changed on the way to the file")
        return
    p = written.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    if not (np.isfinite(p).all() and (p >= 0).all() and (np.abs(p - built.to_numpy()) < 1e-9).all()):
        raise DataError(f"{name}: a cell of {written.name} is not its probability", expected="finite numbers from 0 on")


def _check_sums(name: str, p: np.ndarray) -> None:
    if not (np.abs(p.sum(axis=1) - 1) < 1e-6).all():
        raise DataError(f"{name}: the probabilities of a row do not sum to 1", expected="finite numbers with sum 1")


def check_sample(built: pl.DataFrame, sample: Path) -> pl.DataFrame:
    """Hold a submission's header and ids against a sample submission, and give the sample.

    Raises:
        DataError: Columns differ, or ids are missing or surplus; the message names the first.
    """
    wanted = forms.read(sample)
    if wanted.columns != built.columns:
        raise DataError(
            f"{sample}: columns {', '.join(wanted.columns)}",
            expected=f"the columns of the submission: {', '.join(built.columns)}",
        )
    key = built.columns[0]
    missing = wanted.join(built, on=key, how="anti")[key]
    surplus = built.join(wanted, on=key, how="anti")[key]
    for name, ids in (("missing from the submission", missing), ("not in the sample", surplus)):
        if len(ids):
            raise DataError(
                f"{len(ids)} ids are {name} (for example {ids[0]!r})",
                expected=f"exactly the {wanted.height} ids of {sample}",
                mend="tiebreak predict on the test file that belongs to this sample submission",
            )
    if wanted[key].is_duplicated().any():
        raise DataError(f"{sample}: an id occurs twice", expected="each id once in a sample submission")
    return wanted
