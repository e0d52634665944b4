"""Records out of the four kinds of files: delimited text, JSON lines, a JSON array, parquet. All in bounded memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from tiebreak.errors import DataError

CELL_LIMIT: Final = 1 << 26
"""Characters in one cell or one record. Real cells reach some MB; a quote that never closes would swallow the file."""

_HEADER_LIMIT: Final = 1 << 20
_DELIMITERS: Final = ",\t;|"
_CHUNK: Final = 1 << 20
_SLICE_BYTES: Final = 64 << 20
_NOT_UTF8: Final = "not UTF-8 text"


class Item(NamedTuple):
    """One record of a file.

    Attributes:
        number: From 1: the line of JSON lines, else the record.
        record: Its values by column; what could be saved of it when `fault` says something.
        fault: Why it could not be taken apart; empty when all is well.
    """

    number: int
    record: dict[str, Any]
    fault: str = ""


def delimited(stream: io.BufferedReader, path: str) -> Iterator[Item]:
    """Rows of CSV, TSV or the like; the delimiter is the one that the header has most of."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline(_HEADER_LIMIT)
    if "\0" in first or not _is_utf8(first) or len(first) == _HEADER_LIMIT:
        raise DataError(f"{path} is no table", expected="CSV, TSV, JSON, JSON lines or parquet; gzip of the texts")
    seen: list[str] = []
    lines = chain([first], iter(lambda: text.readline(CELL_LIMIT), ""))
    rows = csv.reader(_kept(lines, seen, path), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    try:
        header = _next(rows) or []
    except csv.Error as error:
        raise DataError(f"{path}: broken header ({error})", expected="names of columns in the first line") from error
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise DataError(f"{path}: column {doubled[0]!r} occurs twice", expected="different names in the header")
    number = 0
    while True:
        seen.clear()
        try:
            cells = _next(rows)
        except csv.Error as error:
            number += 1
            yield Item(number, {"text": "".join(seen)}, f"broken CSV near line {rows.line_num:,}: {error}")
            continue
        if cells is None:
            return
        if not cells:
            continue
        number += 1
        yield _row(number, header, cells)


def _kept(lines: Iterable[str], seen: list[str], path: str) -> Iterator[str]:
    """The lines, each put by until its row is known to be well: a row that is broken must be shown whole."""
    for line in lines:
        if len(line) >= CELL_LIMIT:
            raise _too_long(path)
        seen.append(line)
        yield line


def _next(rows: Any) -> list[str] | None:
    # The limit belongs to the whole process, so it is ours for no longer than one row.
    before = csv.field_size_limit(CELL_LIMIT)
    try:
        cells: list[str] | None = next(rows, None)
    finally:
        csv.field_size_limit(before)
    return cells


def _row(number: int, header: list[str], cells: list[str]) -> Item:
    record = dict(zip(header, cells, strict=False))
    if len(cells) != len(header):
        if len(cells) > len(header):
            record["(more cells)"] = cells[len(header) :]  # type: ignore[assignment]
        return Item(number, record, f"{len(cells)} cells where the header has {len(header)}")
    if not all(map(_is_utf8, cells)):
        return Item(number, record, _NOT_UTF8)
    return Item(number, record)


def _is_utf8(text: str) -> bool:
    """Whether the text was decoded whole: bytes that are not UTF-8 live on as lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_long(path: str) -> DataError:
    return DataError(f"{path}: a line is longer than {CELL_LIMIT:,} characters", expected="one row or record a line")


def json_lines(stream: io.BufferedReader, path: str) -> Iterator[Item]:
    """One JSON object a line; empty lines are passed over."""
    for number, line in enumerate(iter(lambda: stream.readline(CELL_LIMIT), b""), 1):
        if len(line) >= CELL_LIMIT:
            raise _too_long(path)
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except UnicodeDecodeError:
            fault, record = _NOT_UTF8, None
        except json.JSONDecodeError as error:
            fault, record = f"broken JSON: {error.msg} at character {error.pos + 1}", None
        except (ValueError, RecursionError) as error:
            fault, record = f"unreadable JSON: {error}", None
        else:
            fault = "" if isinstance(record, dict) else "not a JSON object"
        if fault:
            yield Item(number, {"text": line.decode("utf-8", "surrogateescape").rstrip("\r\n")}, fault)
        else:
            yield Item(number, record)


def json_array(stream: io.BufferedReader, path: str) -> Iterator[Item]:
    """The objects of one JSON array, without ever holding more than one of them and a buffer."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="strict")
    try:
        for number, value in enumerate(_elements(text, path), 1):
            if isinstance(value, dict):
                yield Item(number, value)
            else:
                yield Item(number, {"value": value}, "not a JSON object")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {_NOT_UTF8} ({error.reason})", expected="UTF-8") from error


def _elements(text: io.TextIOWrapper, path: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    buffer = _past_blanks(text.read(_CHUNK).lstrip()[1:], text)
    count = 0
    while not buffer.startswith("]"):
        try:
            value, end = decoder.raw_decode(buffer)
        except (ValueError, RecursionError) as error:
            # Doubling what is read keeps an element of many MB from being tried over and over.
            more = "" if len(buffer) > CELL_LIMIT else text.read(max(_CHUNK, len(buffer)))
            if not more:
                raise DataError(f"{path}: the JSON array breaks at element {count + 1} ({error})") from error
            buffer += more
            continue
        count += 1
        yield value
        buffer = _past_blanks(buffer[end:], text)
        if buffer.startswith(","):
            buffer = _past_blanks(buffer[1:], text)
        elif not buffer.startswith("]"):
            raise DataError(f"{path}: the JSON array is cut off after element {count}", expected="a whole file")


def _past_blanks(buffer: str, text: io.TextIOWrapper) -> str:
    """The buffer from its first character that is no blank, filled again if there was none."""
    buffer = buffer.lstrip()
    while not buffer and (more := text.read(_CHUNK)):
        buffer = more.lstrip()
    return buffer


def parquet(path: str) -> Iterator[Item]:
    """Rows of a parquet file, slice by slice: a file may hold a single row group far larger than memory."""
    try:
        lazy = pl.scan_parquet(Path(path), glob=False)
        total = int(lazy.select(pl.len()).collect().item())
        start, size = 0, 256
        while start < total:
            part = lazy.slice(start, size).collect()
            yield from (Item(number, record) for number, record in enumerate(part.iter_rows(named=True), start + 1))
            start += part.height
            size = max(1, min(32_768, int(_SLICE_BYTES * part.height / max(part.estimated_size(), 1))))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: damaged parquet ({str(error).splitlines()[0]})", expected="a whole file") from error
