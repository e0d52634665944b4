"""Importing: files of votes into one file of comparisons, in bounded memory, whole or not at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

import polars as pl
from polars.io.plugins import register_io_source

from tiebreak import storage
from tiebreak.comparisons import SCHEMA, TEXTS
from tiebreak.errors import UsageError
from tiebreak.ingest.options import Options, Report
from tiebreak.ingest.streaming import Reader, rejects

STDOUT: Final = "-"
ROW_GROUP: Final = 16_384
"""Rows in a row group of the parquet we write: small enough that nobody needs more than 100 MB to read one."""


def import_file(
    paths: str | Path | Sequence[str | Path],
    output: Path | None,
    options: Options | None = None,
    advance: Callable[[int], None] | None = None,
    *,
    limit: int | None = None,
) -> Report:
    """Read files of votes and write them as one table.

    Args:
        paths: The files, in order; `-` is standard input.
        output: `.parquet`, `.jsonl` (or `.ndjson`) or `.csv`; `-` writes JSON lines to standard output; None writes
            nothing and only reports. Rows that are skipped go to `<stem>.rejected.jsonl` beside it.
        options: The policies.
        advance: Is called with the number of rows just read.
        limit: Stop after so many rows.

    Raises:
        DataError: A file cannot be read; nothing is written then.
        UsageError: The output has an unknown suffix, or an argument is wrong.
        ResourceError: The output cannot be written.
    """
    write = _writer(output)
    options = options or Options()
    report = Report()
    is_file = output is not None and str(output) != STDOUT
    reader = Reader(paths, options, report, limit=limit)
    if output is None or not is_file:
        write(_counted(reader.tables(None), advance), Path(STDOUT))
        return report
    rejected = output.with_name(f"{output.stem}.rejected.jsonl") if options.on_bad == "skip" else None
    # Both files are held here and not in the stream: polars pulls the stream in a thread of its own, which is not
    # wound up when the user interrupts.
    with rejects(rejected) as bad, storage.replacing(output) as aside:
        write(_counted(reader.tables(bad), advance), aside)
    return report


Write = Callable[[Iterator[pl.DataFrame], Path], None]


def _writer(output: Path | None) -> Write:
    if output is None:
        return _write_nothing
    if str(output) == STDOUT:
        return _write_stdout
    writers: dict[str, Write] = {
        ".parquet": _write_parquet, ".jsonl": _write_json_lines, ".ndjson": _write_json_lines, ".csv": _write_csv,
    }  # fmt: skip
    if output.suffix not in writers:
        raise UsageError(f"{output}: unknown suffix {output.suffix!r}", expected=f"one of {', '.join(writers)}")
    return writers[output.suffix]


def _counted(tables: Iterator[pl.DataFrame], advance: Callable[[int], None] | None) -> Iterator[pl.DataFrame]:
    for table in tables:
        yield table
        if advance is not None:
            advance(table.height)


def _write_nothing(tables: Iterator[pl.DataFrame], _: Path) -> None:
    for _table in tables:
        pass


def _write_parquet(tables: Iterator[pl.DataFrame], path: Path) -> None:
    # Polars writes in threads of its own, which may still create their file after the stream has failed. So the first
    # table, where most failures show, is drawn before it starts, and its file lies in a folder that is gone by then.
    # An open file in place of a name would be no help: polars then holds all of it in memory.
    head = list(islice(tables, 1))

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        yield from chain(head, tables)

    lazy = register_io_source(source, schema=pl.Schema(SCHEMA))
    with TemporaryDirectory(dir=path.parent, prefix=path.name, ignore_cleanup_errors=True) as folder:
        part = Path(folder) / "table.parquet"
        lazy.sink_parquet(part, compression="zstd", compression_level=3, row_group_size=ROW_GROUP, engine="streaming")
        part.replace(path)


def _write_json_lines(tables: Iterator[pl.DataFrame], path: Path) -> None:
    with path.open("wb") as out:
        _pour(tables, out)


def _write_stdout(tables: Iterator[pl.DataFrame], _: Path) -> None:
    _pour(tables, sys.stdout.buffer)


def _pour(tables: Iterator[pl.DataFrame], out: IO[bytes]) -> None:
    for table in tables:
        out.write(table.write_ndjson().encode())


def _write_csv(tables: Iterator[pl.DataFrame], path: Path) -> None:
    """Lists become JSON in cells, as in Kaggle's files. Texts stay byte for byte: this file is for machines."""
    with path.open("wb") as out:
        out.write((",".join(SCHEMA) + "\n").encode())
        for table in tables:
            cells = {name: [_json_cell(turns) for turns in table[name].to_list()] for name in TEXTS}
            flat = table.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in cells.items())
            flat.write_csv(out, include_header=False)


def _json_cell(turns: list[str | None]) -> str:
    return json.dumps(turns, ensure_ascii=False)
