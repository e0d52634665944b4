"""The way from files to tables: open, recognise, convert row by row, and keep account of everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from tiebreak import storage
from tiebreak.errors import BadRowsError, DataError, UsageError
from tiebreak.ingest import files, recognise
from tiebreak.ingest.options import CARRIED, CONTENT, Options, Report
from tiebreak.ingest.records import Item
from tiebreak.ingest.rows import BadRow, LeftOut, Marks, Plan, Record, Row, Sample
from tiebreak.ingest.table import Builder

BATCH_ROWS: Final = 4096
BATCH_CHARACTERS: Final = 32 << 20
"""A table is given out at this size, however few rows it has: some rows have megabytes."""

MEANINGFUL: Final = frozenset((*CARRIED, *CONTENT, "winner", "winner_model_a", "winner_model_b", "winner_tie"))
SHOWN: Final = 20
SAMPLED: Final = 64


def stream(
    paths: str | Path | Sequence[str | Path],
    options: Options | None = None,
    *,
    rejected: Path | None = None,
    report: Report | None = None,
    batch_rows: int = BATCH_ROWS,
    limit: int | None = None,
) -> Iterator[pl.DataFrame]:
    """Read files as a stream of validated tables, in file and row order, in bounded memory.

    Args:
        paths: One file or several; `-` is standard input.
        options: The policies.
        rejected: Where rows that cannot be read go, complete, as JSON lines (only with `on_bad="skip"`); the file is
            written also when there are none.
        report: Is filled in while the stream is read.
        batch_rows: Most rows in one table; long texts make it fewer.
        limit: Stop after so many rows in all.

    Raises:
        DataError: A file cannot be read. With `on_bad="stop"`, bad rows raise `BadRowsError` once everything has been
            read, so that it can say how many there are; no table is given out after the first of them.
        UsageError: No file, or one that cannot be what the options say.
    """
    reader = Reader(paths, options or Options(), report or Report(), batch_rows=batch_rows, limit=limit)
    return _kept_aside(reader, rejected)


def _kept_aside(reader: Reader, rejected: Path | None) -> Iterator[pl.DataFrame]:
    with rejects(rejected if reader.options.on_bad == "skip" else None) as aside:
        yield from reader.tables(aside)


@contextmanager
def rejects(path: Path | None) -> Iterator[IO[str] | None]:
    """A file for rejected rows, there whole once the block ends well; none without a path."""
    if path is None:
        yield None
        return
    with storage.replacing(path) as aside, aside.open("w", encoding="utf-8") as out:
        yield out


class Reader:
    """Reads some files once. The arguments are those of `stream`, and are checked at once."""

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        options: Options,
        report: Report,
        *,
        batch_rows: int = BATCH_ROWS,
        limit: int | None = None,
    ) -> None:
        self.names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        if not self.names:
            raise UsageError("no file to read", expected="at least one path")
        if self.names.count(files.STDIN) > 1:
            raise UsageError("standard input (-) named more than once", expected="once")
        for name in self.names:
            files.check(name)
        if batch_rows < 1 or (limit is not None and limit < 1):
            raise UsageError("batch_rows and limit must be at least 1")
        self.options = options
        self.report = report
        self.batch_rows = batch_rows
        self.limit = limit
        self.builder = Builder(report)
        self.first_bad: list[tuple[str, int, str]] = []
        self.aside: IO[str] | None = None

    def tables(self, aside: IO[str] | None) -> Iterator[pl.DataFrame]:
        """The tables, one after the other; bad rows go to `aside` where there is one."""
        self.aside = aside
        for name in self.names:
            yield from self._file(name)
            if self._is_full():
                break
        if self.report.rejected and self.options.on_bad == "stop":
            raise BadRowsError(
                self.first_bad, self.report.rejected,
                mend="--on-bad skip writes them to a file of their own and reads the others (in Python on_bad='skip')",
            )  # fmt: skip

    def _file(self, name: str) -> Iterator[pl.DataFrame]:
        with closing(files.items(name)) as items:
            yield from self._items(name, items)

    def _items(self, name: str, items: Iterator[Item]) -> Iterator[pl.DataFrame]:
        head = list(islice(items, SAMPLED))
        sample = _sample(head, name)
        form, plan = recognise.plan(sample, self.options, name)
        self.report.files.append(name)
        self.report.formats.append(form)
        convert = _Watched(sample, plan)
        stem = "stdin" if name == files.STDIN else Path(name).name.split(".")[0]
        before = self.report.rows
        for item in chain(head, items):
            self._take(item, convert, name, stem)
            if self.builder.rows >= self.batch_rows or self.builder.characters >= BATCH_CHARACTERS or self._is_full():
                yield from self._give(name)
                if self._is_full():
                    break
        yield from self._give(name)
        if convert.unused:
            self.report.notes[f"columns not carried: {', '.join(convert.unused)}"] += self.report.rows - before

    def _take(self, item: Item, convert: _Watched, name: str, stem: str) -> None:
        marks: Marks = []
        try:
            if item.fault:
                raise BadRow(item.fault)
            self.builder.add(convert(item.record, marks), marks, number=item.number, source=stem)
        except LeftOut as note:
            self.report.notes[str(note)] += 1
        except BadRow as reason:
            self._reject(item, str(reason), name)

    def _reject(self, item: Item, reason: str, name: str) -> None:
        self.report.rejected += 1
        if len(self.first_bad) < SHOWN:
            self.first_bad.append((name, item.number, reason))
        if self.aside is not None:
            line = {"file": name, "row": item.number, "reason": reason, "record": item.record}
            self.aside.write(_json(line) + "\n")

    def _give(self, name: str) -> Iterator[pl.DataFrame]:
        if self.builder.rows:
            table = self.builder.build(name)
            if not (self.report.rejected and self.options.on_bad == "stop"):
                yield table

    def _is_full(self) -> bool:
        return self.limit is not None and self.report.rows >= self.limit


class _Watched:
    """A plan, with an eye on columns that the sample did not have: JSON lines may bring new ones at any row."""

    def __init__(self, sample: Sample, plan: Plan) -> None:
        self.convert = plan.convert
        self.known = set(sample.columns)
        self.used = plan.used
        self.unused = [column for column in sample.columns if column not in plan.used]

    def __call__(self, record: Record, marks: Marks) -> Row:
        if not record.keys() <= self.known:
            for column in record.keys() - self.known:
                if column in MEANINGFUL - self.used:
                    raise BadRow(
                        f"column {column} occurs here for the first time; the rows before were read without it"
                    )
                self.known.add(column)
                if column not in self.used:
                    self.unused.append(column)
        return self.convert(record, marks)


def _sample(head: list[Item], name: str) -> Sample:
    records: list[Record] = [item.record for item in head if not item.fault]
    if not records:
        raise DataError(f"{name}, row {head[0].number}: {head[0].fault}, as are all the first rows", expected="votes")
    return Sample(tuple(dict.fromkeys(chain.from_iterable(records))), records)


def _json(value: Any) -> str:
    """JSON on one line; escaped where the text has lone surrogates, so that not a byte of it is lost."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, default=str)
    return text
