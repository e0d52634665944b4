"""Kinds of files, and what can be wrong with one: a clear error or a bad row, never a table cut short."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiebreak as tb
from tiebreak import ingest
from tiebreak.errors import BadRowsError, DataError, TiebreakError, UsageError
from tiebreak.ingest import records as kinds

COLUMNS = ("id", "prompt", "response_a", "response_b", "winner")


def record(number: int) -> dict[str, Any]:
    return {"id": str(number), "prompt": f"p{number}\n\"'é", "response_a": "a", "response_b": "b", "winner": "tie"}


def as_csv(rows: list[dict[str, Any]], path: Path, delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write(kind: str, rows: list[dict[str, Any]], path: Path) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if kind == "csv":
        as_csv(rows, path)
    elif kind == "tsv":
        as_csv(rows, path, "\t")
    elif kind == "jsonl":
        path.write_text("\n".join(lines), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    else:
        pl.DataFrame(rows).write_parquet(path)
    return path


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_the_kind_is_told_by_the_bytes_never_by_the_name(kind: str, packed: bool, tmp_path: Path) -> None:
    rows = [record(number) for number in range(100)]
    path = write(kind, rows, tmp_path / "votes.parquet")
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    table = tb.read(path)
    assert table["id"].to_list() == [str(number) for number in range(100)]
    assert table["prompt"].to_list() == [[row["prompt"]] for row in rows]


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_trouble(tmp_path: Path) -> None:
    lines = [json.dumps(record(1)), "", "   ", json.dumps(record(2)), ""]
    (tmp_path / "v.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert tb.read(tmp_path / "v.jsonl")["id"].to_list() == ["1", "2"]
    text = "\ufeffid,prompt,response_a,response_b,winner\r\n\r\n1,p,a,b,tie\r\n"
    (tmp_path / "v.csv").write_text(text, encoding="utf-8", newline="")
    assert tb.read(tmp_path / "v.csv")["id"].to_list() == ["1"]


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=8), chunk=st.integers(1, 700), indent=st.booleans())
def test_a_json_array_may_break_anywhere_between_two_reads(
    sizes: list[int], chunk: int, indent: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("array") / "v.json"
    rows = [record(number) | {"prompt": "]},{[" * size} for number, size in enumerate(sizes)]
    path.write_text(json.dumps(rows, indent=2 if indent else None), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "_CHUNK", chunk)
        assert tb.read(path)["prompt"].to_list() == [[row["prompt"]] for row in rows]


def test_one_giant_row_group_is_read_slice_by_slice(tmp_path: Path) -> None:
    frame = pl.DataFrame([record(number) for number in range(5000)])
    frame.write_parquet(tmp_path / "v.parquet", row_group_size=1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "_SLICE_BYTES", 4096)
        items = list(kinds.parquet(str(tmp_path / "v.parquet")))
    assert [item.number for item in items] == list(range(1, 5001))
    assert [item.record["id"] for item in items] == frame["id"].to_list()


GOOD_CSV = "id,prompt,response_a,response_b,winner\n1,p,a,b,tie\n"

BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty|no rows|unknown format"),
    "header only": (GOOD_CSV.splitlines()[0].encode(), "no rows"),
    "empty gzip": (gzip.compress(b""), "is empty"),
    "cut gzip": (gzip.compress(os.urandom(9) + GOOD_CSV.encode() * 99)[:60], "cut off|no table"),
    "damaged gzip": (gzip.compress(GOOD_CSV.encode() * 999)[:-8] + b"\0" * 8, "damaged"),
    "binary": (b"\x7fELF\0\0\0\1\2\3", "is no table"),
    "latin-1 header": ("id,prömpt\n1,x\n".encode("latin-1"), "is no table"),
    "utf-16": (GOOD_CSV.encode("utf-16"), "UTF-16"),
    "zstd": (b"\x28\xb5\x2f\xfd1234", "zstd -d"),
    "zip": (b"PK\x03\x041234", "zip archive"),
    "cut parquet": (b"PAR1" + b"\0" * 100, "damaged parquet"),
    "parquet in gzip": (gzip.compress(b"PAR1" + b"\0" * 100), "parquet in a pipe or in gzip"),
    "array cut off": (b'[{"prompt": "p", "chosen": "a", "rejected": "b"}', "cut off after element 1"),
    "array broken": (b'[{"prompt": "p", "chosen": "a", "rejected": "b"}, {"x": ]', "breaks at element 2"),
    "array not utf-8": (b'[{"prompt": "\xff"}]', "not UTF-8"),
    "array of numbers": (b"[1, 2]", "not a JSON object"),
    "empty array": (b"[]", "no rows"),
    "lines of no json": (b"{x\n{y\n", "broken JSON"),
    "broken header": (b'id,"prompt\n1,2\n', "broken header"),
    "column twice": (b"id,prompt,id\n1,2,3\n", "column 'id' occurs twice"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_is_one_clear_error(name: str, tmp_path: Path) -> None:
    content, message = BROKEN[name]
    path = tmp_path / "votes.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        tb.read(path, on_bad="skip")
    assert str(path) in str(caught.value)


def test_parquet_damaged_anywhere_is_an_error_of_ours(tmp_path: Path) -> None:
    pl.DataFrame([record(number) for number in range(2000)]).write_parquet(tmp_path / "v.parquet")
    whole = (tmp_path / "v.parquet").read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.parquet").write_bytes(whole[:cut])
        with pytest.raises(DataError, match="damaged parquet"):
            tb.read(tmp_path / "cut.parquet")


def test_missing_files_and_directories_are_told_before_anything_is_read(tmp_path: Path) -> None:
    good = write("csv", [record(1)], tmp_path / "v.csv")
    with pytest.raises(DataError, match="no such file"):
        ingest.stream([good, tmp_path / "none.csv"])
    with pytest.raises(DataError, match="is a directory"):
        ingest.stream([good, tmp_path])
    with pytest.raises(UsageError, match="no file"):
        tb.read()
    with pytest.raises(UsageError, match="more than once"):
        ingest.stream(["-", "-"])


def bad_rows(path: Path) -> list[tuple[int, str]]:
    with pytest.raises(BadRowsError) as caught:
        tb.read(path)
    assert {file for file, _, _ in caught.value.rows} == {str(path)}
    return [(row, reason) for _, row, reason in caught.value.rows]


def test_rows_of_csv_that_cannot_be_taken_apart(tmp_path: Path) -> None:
    text = (
        b"id,prompt,response_a,response_b,winner\n1,p,a,b,tie\n2,p,a,b\n3,p,a,b,tie,more\n4,p\xff,a,b,tie\n"
        b'5,p,a,"b"x,tie\n6,p,a,b,tie\n7,p,"a,b,tie\n'
    )
    (tmp_path / "v.csv").write_bytes(text)
    found = bad_rows(tmp_path / "v.csv")
    assert [row for row, _ in found] == [2, 3, 4, 5, 7]
    reasons = ["4 cells where the header has 5", "6 cells", "not UTF-8", "broken CSV near line 6", "unexpected end"]
    for (_, reason), expected in zip(found, reasons, strict=True):
        assert expected in reason


def test_rows_of_json_lines_that_cannot_be_taken_apart(tmp_path: Path) -> None:
    good = json.dumps(record(1)).encode()
    lines = [good, b'{"id": ', b"[1]", b'{"prompt": "\xff"}', b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}", good]
    (tmp_path / "v.jsonl").write_bytes(b"\n".join(lines))
    found = bad_rows(tmp_path / "v.jsonl")
    assert [row for row, _ in found] == [2, 3, 4, 5, 6]
    for (_, reason), expected in zip(found, ["broken JSON", "not a JSON object", "UTF-8", "JSON", "JSON"], strict=True):
        assert expected in reason


def test_a_quote_that_never_closes_does_not_swallow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text(GOOD_CSV + '2,"' + "p,a,b,tie\n" * 1000 + GOOD_CSV.splitlines()[1] + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "CELL_LIMIT", 500)
        found = bad_rows(path)
    assert "field larger than field limit" in found[0][1]
    assert len(found) == 20


@pytest.mark.parametrize("start", ['{"prompt": "', GOOD_CSV])
def test_a_line_without_end_is_an_error_and_not_the_end_of_memory(start: str, tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_text(start + "x" * 2000, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "CELL_LIMIT", 1000)
        with pytest.raises(DataError, match="a line is longer than 1,000 characters"):
            tb.read(path)


def test_a_label_that_appears_late_is_never_ignored(tmp_path: Path) -> None:
    plain = {"prompt": ["p"], "response_a": ["a"], "response_b": ["b"]}
    rows = [plain] * 100 + [plain | {"label": "a"}] + [plain | {"remark": "x"}]
    path = tmp_path / "v.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert bad_rows(path) == [
        (101, "column label occurs here for the first time; the rows before were read without it")
    ]
    report = ingest.Report()
    list(ingest.stream(path, ingest.Options(on_bad="skip"), report=report))
    assert "columns not carried: remark" in report.notes


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"{", b"[", b"PAR1", b"\x1f\x8b", b"id,prompt\n"]))
def test_no_bytes_whatever_are_more_than_an_error_of_ours(
    content: bytes, start: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "v"
    path.write_bytes(start + content)
    with pytest.raises(TiebreakError):
        tb.read(path)
