"""Where opinions come from: tables of predictions, judges that are asked now, or both for one and the same judge."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import bundle, comparisons, judges, row_hashes
from tiebreak.bundle import Manifest
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.members import spread
from tiebreak.judges.runtime import Runtime
from tiebreak.predict import scale

EMBEDDED: Final = "embedded"
SAMPLE: Final = 32
"""Rows on which the speed of a judge is measured whose predictions are there already."""

_TABLE: Final = re.compile(r"(?P<path>.+\.(?:parquet|csv|jsonl|ndjson|json))(?:#(?P<columns>[^@#]+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """One opinion, as written on the command line.

    Attributes:
        name: Of the judge.
        predictions: A table of its predictions; None: it is asked.
        columns: Names of the table's columns for A, B and a tie; None: p_a, p_b, p_tie.
        judge: Its bundle; None: it is not known here.
    """

    name: str
    predictions: Path | None
    columns: list[str] | None
    judge: Path | None


def parse(texts: Sequence[str]) -> list[Source]:
    """Read `[NAME=]PREDICTIONS[#A,B,TIE][@JUDGE]`, `[NAME=]JUDGE` or `[NAME=]embedded`.

    Raises:
        UsageError: A name is given twice, a judge is not there, or there are not three columns.
    """
    found: dict[str, Source] = {}
    for text in texts:
        source = _parse(text)
        if source.name in found:
            raise UsageError(
                f"two tables are called {source.name!r}", expected="a name of its own for each", mend="NAME=FILE"
            )
        found[source.name] = source
    return list(found.values())


def _parse(text: str) -> Source:
    name, equals, rest = text.partition("=")
    rest = rest if equals else text
    table, at, judge = rest.rpartition("@")
    if not (at and _TABLE.fullmatch(table)):
        table, judge = rest, ""
    match = None if Path(rest).is_dir() else _TABLE.fullmatch(table)
    if match is None and (rest == EMBEDDED or Path(rest).is_dir()):
        return Source(
            name if equals else Path(rest).resolve().name if rest != EMBEDDED else rest, None, None, _judge(rest)
        )
    columns = match["columns"].split(",") if match and match["columns"] else None
    if columns is not None and len(columns) != 3:
        raise UsageError(f"columns {','.join(columns)!r}", expected="three, such as FILE.csv#m1_a,m1_b,m1_tie")
    path = Path(match["path"] if match else table)
    return Source(name if equals else path.stem, path, columns, _judge(judge) if judge else None)


def _judge(text: str) -> Path:
    if text == EMBEDDED:
        return judges.EMBEDDED
    if not (Path(text) / bundle.MANIFEST).is_file():
        raise UsageError(f"{text} is no judge bundle", expected="a directory with judge.json, or embedded")
    return Path(text)


@dataclass(frozen=True)
class Opinion:
    """What one judge said of the votes.

    Attributes:
        name: Of the judge.
        table: Its predictions.
        judge: Its bundle, where it is known.
        seconds: That one row took, where it was measured.
    """

    name: str
    table: pl.DataFrame
    judge: Path | None
    seconds: float | None = None


def ask(
    source: Source, votes: pl.DataFrame, runtime: Runtime, *, advance: Callable[[int], None]
) -> Opinion:  # fmt: skip
    """Let a judge predict the votes.

    Args:
        source: Whose `judge` is asked.
        votes: Comparisons with their texts.
        runtime: How it runs; choices that it does not know are left out.
        advance: Told of finished rows.

    Raises:
        DataError: The votes have no texts.
    """
    assert source.judge is not None  # noqa: S101 - whoever asks has seen that
    table = _texts(votes, source.name)
    judge = judges.load(source.judge)
    run_where_known(judge, runtime)
    if callable(ready := getattr(judge, "ready", None)):
        ready()
    judge.predict(table.head(2))  # what is slow only once does not belong to the cost of a row
    rows = scale.chunk_rows(judge.manifest, runtime.devices)
    parts, started = [], time.perf_counter()
    for chunk in table.iter_slices(rows):
        parts.append(judge.predict(chunk))
        advance(chunk.height)
    seconds = (time.perf_counter() - started) / max(table.height, 1)
    return Opinion(source.name, pl.concat(parts), source.judge, seconds)


def seconds_a_row(directory: Path, votes: pl.DataFrame, runtime: Runtime) -> float:
    """How long a judge takes for one row, measured on a few."""
    sample = _texts(votes, str(directory)).sample(min(SAMPLE, votes.height), seed=0)
    judge = judges.load(directory)
    run_where_known(judge, runtime)
    judge.predict(sample.head(2))
    started = time.perf_counter()
    judge.predict(sample)
    return (time.perf_counter() - started) / sample.height


def run_where_known(judge: judges.Judge, runtime: Runtime) -> None:
    """Run a judge by the choices that it knows: one command line serves judges of several kinds."""
    spread(runtime, [judge.manifest.name], [judge], strict=False)


def unseen(source: Source, votes: pl.DataFrame, *, in_sample: bool) -> str | None:
    """See that a judge that is to be asked was not trained on these votes; give back what nobody can tell.

    Raises:
        DataError: It was, and `in_sample` is not given.
    """
    assert source.judge is not None  # noqa: S101 - whoever asks has seen that
    manifest, known = bundle.read(source.judge), row_hashes.read_trained(source.judge)
    table = _texts(votes, source.name)
    count = int(row_hashes.unordered(table).is_in(sorted(known)).sum()) if known else _whole_sets(manifest, table)
    if not count:
        return None if known is not None else f"{source.name}: its bundle does not say which rows it was trained on"
    what = f"{source.name} was trained on {count:,} of these {table.height:,} votes"
    if in_sample:
        return f"{what}: what is fitted to them trusts it too much"
    raise DataError(
        what, expected="votes that no judge was trained on, or out-of-fold predictions",
        mend=f"{source.name}=OUT-OF-FOLD.parquet@{source.judge}, or --in-sample if that is what you want",
    )  # fmt: skip


def _whole_sets(manifest: Manifest, table: pl.DataFrame) -> int:
    """All rows, if they are one of the sets that the judge names as training data; a part of one is not recognised."""
    print_ = comparisons.fingerprint(table)
    return table.height if any(source.fingerprint == print_ for source in manifest.training) else 0


def _texts(votes: pl.DataFrame, name: str) -> pl.DataFrame:
    if not set(comparisons.REQUIRED) <= set(votes.columns):
        raise DataError(
            f"{name} is a judge, and the votes have no texts for it", expected="votes with their texts",
            mend=f"{name}=PREDICTIONS@JUDGE, with predictions for the ids of the votes",
        )  # fmt: skip
    return comparisons.validate(votes)
