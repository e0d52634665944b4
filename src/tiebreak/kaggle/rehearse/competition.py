"""The files of the competition for a rehearsal: real ones, our own samples in their form, or many drawn of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import samples
from tiebreak.comparisons import TEXTS
from tiebreak.errors import DataError
from tiebreak.kaggle.settings import KernelSettings, Submission

FEW: Final = 3
"""Rows of the public test file of a code competition."""

_PLACEHOLDERS: Final = {"p_a": "0.333", "p_b": "0.333", "p_tie": "0.333"}
_FORMS: Final = (".csv", ".parquet")


@dataclass(frozen=True)
class Competition:
    """The files of a competition.

    Attributes:
        test: The file that is judged.
        sample: Its sample submission.
        ids: The ids that a submission must have, in its order.
    """

    test: Path
    sample: Path
    ids: pl.Series


def lay_out(
    folder: Path,
    settings: KernelSettings,
    test: Path | None = None,
    sample: Path | None = None,
    rows: int | None = None,
) -> Competition:
    """Write what the notebook finds in the folder of the competition.

    Args:
        folder: Where.
        settings: What the notebook is told: names of the files and the form of the submission.
        test: A test file; None takes our own samples, three of them or as many as `rows` says.
        sample: Its sample submission; None makes one of the form.
        rows: Rows drawn from the test file with replacement, under new ids: a hidden test set of that size.

    Raises:
        DataError: The test file cannot be read, or has no ids.
    """
    form = settings.submission
    table = read(test) if test is not None else _ours(form).rename(settings.map, strict=False)
    if form.id not in table.columns:
        raise DataError(
            f"{test}: no column {form.id}; it has {', '.join(table.columns)}", expected="the ids of the submission"
        )
    if rows is not None:
        table = _drawn(table, form.id, rows)
    elif test is None:
        table = table.head(FEW)
    laid = folder / Path(settings.test).name
    if test is not None and rows is None and test.suffix.lower() == laid.suffix.lower():
        laid.write_bytes(test.read_bytes())
    else:
        _writer(laid)(table)
    ids = table[form.id].cast(pl.String)
    beside = folder / Path(settings.sample).name
    if sample is not None and rows is None:
        beside.write_bytes(sample.read_bytes())
        given = read(sample)
        wanted = given[form.id].cast(pl.String) if form.id in given.columns else ids
        ids = wanted if set(wanted) == set(ids) else ids
    else:
        columns = [
            pl.lit(_PLACEHOLDERS.get(content, _half(content, form))).alias(n) for n, content in form.columns.items()
        ]
        table.select(form.id, *columns).write_csv(beside)
    return Competition(laid, beside, ids)


def read(path: Path) -> pl.DataFrame:
    """A test file or a sample submission; cells of a CSV stay the texts that they are.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return pl.read_parquet(path) if path.suffix.lower() == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", expected="CSV or Parquet, as the competition has it"
        ) from error


def _ours(form: Submission) -> pl.DataFrame:
    """Our own samples as a competition has them: turns as JSON lists, or plain texts where one winner is asked for."""
    plain = any(content.startswith("winner") for content in form.columns.values())
    votes = samples.votes()
    votes = votes.filter(pl.col("prompt").list.len() == 1) if plain else votes
    cells = {
        name: [turns[0] or "" if plain else json.dumps(turns, ensure_ascii=False) for turns in votes[name].to_list()]
        for name in TEXTS
    }
    return pl.DataFrame({form.id: range(1001, 1001 + votes.height), **cells})


def _drawn(table: pl.DataFrame, key: str, rows: int) -> pl.DataFrame:
    chosen = random.Random(0).choices(range(table.height), k=rows)  # noqa: S311 no secret
    numbers = pl.int_range(1, rows + 1, eager=True)
    ids = numbers.cast(table[key].dtype) if table[key].dtype.is_integer() else numbers.cast(pl.String)
    return table[chosen].with_columns(ids.alias(key))


def _half(content: str, form: Submission) -> str:
    return form.labels["a"] if content.startswith("winner") else "0.5"


def _as_cells(table: pl.DataFrame) -> pl.DataFrame:
    """Lists as JSON, as a CSV has them."""
    lists = [name for name, kind in table.schema.items() if isinstance(kind, pl.List)]
    columns = [
        pl.Series(name, [cell and json.dumps(cell) for cell in table[name].to_list()], pl.String) for name in lists
    ]
    return table.with_columns(columns)


def _writer(path: Path) -> Callable[[pl.DataFrame], None]:
    if path.suffix.lower() == ".parquet":
        return lambda table: table.write_parquet(path)
    if path.suffix.lower() == ".csv":
        return lambda table: _as_cells(table).write_csv(path)
    raise DataError(f"{path.name}: test files of this kind cannot be made", expected=" or ".join(_FORMS))
