"""The way from files to tables: open, recognise, convert row by row, and keep account of everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from tiebreak import storage
from tiebreak.errors import BadRowsError, DataError, UsageError
from tiebreak.ingest import files, recognise
from tiebreak.ingest.options import Options, Report
from tiebreak.ingest.records import Item
from tiebreak.ingest.rows import BadRow, LeftOut, Marks, Record, Sample
from tiebreak.ingest.table import Builder

BATCH_ROWS: Final = 4096
BATCH_CHARACTERS: Final = 32 << 20
"""A table is given out at this size, however few rows it has: some rows have megabytes."""

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
    names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not names:
        raise UsageError("no file to read", expected="at least one path")
    if names.count(files.STDIN) > 1:
        raise UsageError("standard input (-) named more than once", expected="once")
    for name in names:
        files.check(name)
    if batch_rows < 1 or (limit is not None and limit < 1):
        raise UsageError("batch_rows and limit must be at least 1")
    reader = _Reader(options or Options(), report or Report(), batch_rows, limit)
    return reader.tables(names, rejected)


class _Reader:
    """The state of one stream."""

    def __init__(self, options: Options, report: Report, batch_rows: int, limit: int | None) -> None:
        self.options = options
        self.report = report
        self.batch_rows = batch_rows
        self.limit = limit
        self.builder = Builder(report)
        self.first_bad: list[tuple[str, int, str]] = []
        self.aside: IO[str] | None = None

    def tables(self, names: list[str], rejected: Path | None) -> Iterator[pl.DataFrame]:
        with ExitStack() as stack:
            if rejected is not None and self.options.on_bad == "skip":
                aside = stack.enter_context(storage.replacing(rejected))
                self.aside = stack.enter_context(aside.open("w", encoding="utf-8"))
            for name in names:
                yield from self._file(name)
                if self._is_full():
                    break
        if self.report.rejected and self.options.on_bad == "stop":
            raise BadRowsError(
                self.first_bad, self.report.rejected,
                mend="--on-bad skip writes them to a file of their own and reads the others (in Python on_bad='skip')",
            )  # fmt: skip

    def _file(self, name: str) -> Iterator[pl.DataFrame]:
        items = files.items(name)
        head = list(islice(items, SAMPLED))
        sample = _sample(head, name)
        form, plan = recognise.plan(sample, self.options, name)
        self.report.files.append(name)
        self.report.formats.append(form)
        unused = [column for column in sample.columns if column not in plan.used]
        stem = "stdin" if name == files.STDIN else Path(name).name.split(".")[0]
        before = self.report.rows
        for item in chain(head, items):
            self._take(item, plan.convert, name, stem)
            if self.builder.rows >= self.batch_rows or self.builder.characters >= BATCH_CHARACTERS or self._is_full():
                yield from self._give(name)
                if self._is_full():
                    break
        yield from self._give(name)
        if unused:
            self.report.notes[f"columns not carried: {', '.join(unused)}"] += self.report.rows - before

    def _take(self, item: Item, convert: Any, name: str, stem: str) -> None:
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
