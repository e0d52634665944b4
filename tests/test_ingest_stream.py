"""The stream: order, bounded batches, account of bad rows, whole outputs or none; and the command line around it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiebreak as tb
from tiebreak import comparisons, ingest
from tiebreak.errors import BadRowsError, ResourceError, UsageError
from tiebreak.ingest import streaming

Cli = Callable[..., subprocess.CompletedProcess[str]]
SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vote sets are not beside this checkout")


def record(number: int, winner: str = "model_a") -> dict[str, Any]:
    return {"id": number, "prompt": f"p{number}", "response_a": "a", "response_b": "b", "winner": winner}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in records), encoding="utf-8")
    return path


def left_over(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    batch=st.integers(1, 50),
    limit=st.one_of(st.none(), st.integers(1, 60)),
)
def test_order_is_kept_whatever_the_batches(
    sizes: list[int], batch: int, limit: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = tmp_path_factory.mktemp("order")
    paths = [write(here / f"f{i}.jsonl", [record(n) for n in range(size)]) for i, size in enumerate(sizes)]
    expected = [(f"f{i}", str(n)) for i, size in enumerate(sizes) for n in range(size)][:limit]
    report = ingest.Report()
    tables = list(ingest.stream(paths, report=report, batch_rows=batch, limit=limit))
    assert all(0 < table.height <= batch for table in tables)
    assert all(dict(table.schema) == comparisons.SCHEMA for table in tables)
    assert [(row["source"], row["id"]) for table in tables for row in table.iter_rows(named=True)] == expected
    assert report.rows == sum(report.labels.values()) == len(expected)


def test_long_texts_make_small_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", [record(n) | {"prompt": "x" * 10_000} for n in range(50)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "BATCH_CHARACTERS", 25_000)
        assert [table.height for table in ingest.stream(path)] == [3] * 16 + [2]


def test_the_stream_reads_no_further_than_it_is_asked(tmp_path: Path) -> None:
    """A pipe that never ends: the first tables come out all the same."""
    fifo = tmp_path / "votes"
    os.mkfifo(fifo)
    line = json.dumps(record(1))
    writer = subprocess.Popen(["bash", "-c", f"exec yes '{line}' > {fifo}"], stderr=subprocess.DEVNULL)
    try:
        tables = list(ingest.stream(fifo, limit=10_000))
        assert sum(table.height for table in tables) == 10_000
    finally:
        writer.kill()
        writer.wait()


def test_bad_rows_stop_the_work_after_all_was_read(tmp_path: Path) -> None:
    first = write(tmp_path / "one.jsonl", [record(n, "x" if n % 2 else "tie") for n in range(60)])
    second = write(tmp_path / "two.jsonl", [record(1), record(2, "y")])
    stream = ingest.stream([first, second], batch_rows=1)
    assert next(stream)["id"].to_list() == ["0"]
    with pytest.raises(BadRowsError) as caught:
        next(stream)
    assert caught.value.count == 31
    assert len(caught.value.rows) == 20
    assert caught.value.rows[0][:2] == (str(first), 2)
    assert "and 11 more" in str(caught.value)


def test_skipped_rows_go_aside_complete_and_the_others_are_as_they_would_be(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(
        b"id,prompt,response_a,response_b,winner,remark\n1,p,a,b,tie,x\n2,p,a,b,seven,\xc3\xa9\n"
        b'3,p\xff,a,b,tie,x\n4,p\n5,p,a,b,tie,x\n6,"p,a,b,tie,x\n'
    )
    report = ingest.import_file(path, tmp_path / "v.parquet", ingest.Options(on_bad="skip"))
    assert pl.read_parquet(tmp_path / "v.parquet")["id"].to_list() == ["1", "5"]
    lines = [json.loads(line) for line in (tmp_path / "v.rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["row"], line["file"]) for line in lines] == [(n, str(path)) for n in (2, 3, 4, 6)]
    assert lines[0]["record"] == {
        "id": "2", "prompt": "p", "response_a": "a", "response_b": "b", "winner": "seven", "remark": "é",
    }  # fmt: skip
    assert lines[1]["record"]["prompt"].encode("utf-8", "surrogateescape") == b"p\xff"
    assert lines[2]["record"] == {"id": "4", "prompt": "p"}
    assert lines[3]["record"] == {"text": '6,"p,a,b,tie,x\n'}
    assert report.rejected == 4
    ingest.import_file(write(tmp_path / "g.jsonl", [record(1)]), tmp_path / "v.parquet", ingest.Options(on_bad="skip"))
    assert (tmp_path / "v.rejected.jsonl").read_text() == ""


def test_read_warns_of_skipped_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", [record(1), record(2, "x")])
    with pytest.warns(UserWarning, match="1 bad rows left out"):
        assert tb.read(path, on_bad="skip").height == 1


def test_a_file_without_one_good_row_gives_an_empty_table(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", [record(1, "both_bad")])
    table = tb.read(path, both_bad="drop")
    assert table.height == 0
    assert dict(table.schema) == comparisons.SCHEMA
    ingest.import_file(path, tmp_path / "v.parquet", ingest.Options(both_bad="drop"))
    assert dict(pl.read_parquet(tmp_path / "v.parquet").schema) == comparisons.SCHEMA
    ingest.import_file(path, tmp_path / "v.csv", ingest.Options(both_bad="drop"))
    assert (tmp_path / "v.csv").read_text().startswith("id,prompt,")


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_when_it_stops_the_old_output_stays(suffix: str, tmp_path: Path) -> None:
    output = tmp_path / f"out.{suffix}"
    output.write_text("old")
    path = write(tmp_path / "v.jsonl", [*(record(n) for n in range(9000)), record(1, "x")])
    with pytest.raises(BadRowsError):
        ingest.import_file(path, output)
    assert output.read_text() == "old"
    assert left_over(tmp_path) == []


def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", [record(1)])
    with pytest.raises(UsageError, match="not a directory"):
        ingest.import_file(path, tmp_path / "none" / "v.parquet")
    with pytest.raises(UsageError, match=r"unknown suffix '\.xlsx'"):
        ingest.import_file(path, tmp_path / "v.xlsx")

    def advance(rows: int) -> None:
        raise OSError(28, "No space left on device")

    for name in ("v.parquet", "v.csv"):
        with pytest.raises(ResourceError, match="No space left"):
            ingest.import_file(path, tmp_path / name, advance=advance)
    assert left_over(tmp_path) == []


# The command line


def test_import_says_what_it_did(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", [record(1), record(2, "tie (bothbad)")])
    done = cli("data", "import", path, "-o", tmp_path / "v.parquet", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rows"] == 2
    assert document["labels"] == {"a": 1, "b": 0, "tie": 1, "unlabelled": 0}
    assert document["formats"] == ["wsdm"]
    assert document["files"] == [str(path)]
    assert document["notes"] == {"both answers called bad: counted as a tie": 1}
    for text in ("format wsdm", "2 rows: 1 a, 1 tie", "counted as a tie (1 row)", "v.parquet"):
        assert text in done.stderr
    quiet = cli("-q", "data", "import", path, "-o", tmp_path / "v.parquet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_import_reads_and_writes_pipes(cli: Cli, tmp_path: Path) -> None:
    text = "".join(json.dumps(record(n)) + "\n" for n in range(5))
    done = cli("data", "import", "-", "-o", "-", "--limit", "3", stdin=text)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["source"] == "stdin"
    again = cli("data", "import", "-", "-o", tmp_path / "v.csv", stdin=done.stdout)
    assert again.returncode == 0, again.stderr
    assert tb.read(tmp_path / "v.csv")["prompt"].to_list() == [["p0"], ["p1"], ["p2"]]


def test_bad_rows_on_the_command_line(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "my votes.jsonl", [record(1), record(2, "seven")])
    failed = cli("data", "import", path, "-o", tmp_path / "v.parquet")
    assert failed.returncode == 3
    assert "row 2: unknown label 'seven'" in failed.stderr
    assert f"tiebreak data import '{path}' -o {tmp_path / 'v.parquet'} --on-bad skip" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "v.parquet").exists()
    mended = cli("data", "import", path, "-o", tmp_path / "v.parquet", "--on-bad", "skip")
    assert mended.returncode == 0
    assert "1 bad row left out, in v.rejected.jsonl" in mended.stderr
    named = cli("data", "import", path, "-o", tmp_path / "v.parquet", "--label", "seven=b")
    assert named.returncode == 0
    assert pl.read_parquet(tmp_path / "v.parquet")["label"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.csv", "-o", "v.parquet"], 3, "no such file"),
        (["v.jsonl"], 2, "no output"),
        ([], 2, "FILE"),
        (["v.jsonl", "-o", "v.parquet", "--format", "kagle"], 2, "write kaggle"),
        (["v.jsonl", "-o", "v.parquet", "--map", "prompt"], 2, "OURS=THEIRS"),
        (["v.jsonl", "-o", "v.parquet", "--map", "prompt=x"], 2, "no column 'x'"),
        (["v.jsonl", "-o", "v.parquet", "--label", "x"], 2, "THEIRS="),
        (["v.jsonl", "-o", "v.parquet", "--limit", "0"], 2, "limit"),
        (["v.jsonl", "-o", "-", "--json"], 2, "stdout"),
        (["v.jsonl", "-o", "none/v.parquet"], 2, "not a directory"),
        (["v.jsonl", "-o", "v.xlsx"], 2, "unknown suffix"),
    ],
)
def test_failures_have_their_exit_codes(
    cli: Cli, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    write(tmp_path / "v.jsonl", [record(1)])
    failed = cli("data", "import", *arguments, cwd=tmp_path)
    assert failed.returncode == code
    assert failed.stdout == ""
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.jsonl"]


def test_dry_run_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", [record(1)])
    done = cli("data", "import", path, "-o", tmp_path / "v.parquet", "--dry-run", "--on-bad", "skip", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows"] == 1
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_ctrl_c_leaves_nothing_behind(suffix: str, tmp_path: Path) -> None:
    fifo, output = tmp_path / "votes", tmp_path / f"v.{suffix}"
    os.mkfifo(fifo)
    writer = subprocess.Popen(["bash", "-c", f"exec yes '{json.dumps(record(1))}' > {fifo}"], stderr=subprocess.DEVNULL)
    running = subprocess.Popen(
        [sys.executable, "-m", "tiebreak", "data", "import", str(fifo), "-o", str(output), "--on-bad", "skip"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while len(left_over(tmp_path)) < 2:
            assert running.poll() is None, "the import ended by itself"
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.wait(timeout=60)
    finally:
        writer.kill()
        writer.wait()
    assert running.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["votes"]


# Real files


REAL_FILES = [
    path for folder in (SHARED, SHARED / "raw") for path in sorted(folder.glob("*.*")) if path.suffix != ".md"
]


EXPECTED = {
    "arena_battles_100.jsonl": ("arena", 100, (35, 24, 41, 0)),
    "hh_rlhf_harmless_base_test.jsonl.gz": ("preference", 2312, None),
    "kaggle_test.csv": ("kaggle", 3, (0, 0, 0, 3)),
    "kaggle_train_first_1000.csv": ("kaggle", 1000, (352, 353, 295, 0)),
    "kaggle_lmsys_1k.parquet": ("kaggle", 1000, (352, 353, 295, 0)),
    "arena_unlabelled_pool.parquet": ("kaggle", 1855, (0, 0, 0, 1855)),
    "auto_j_pairwise.parquet": ("kaggle", 1392, None),
    "fastchat_arena_100.parquet": ("kaggle", 100, (35, 24, 41, 0)),
    "finegrained_rlhf_qa_dev.parquet": ("kaggle", 3000, None),
    "hh_rlhf_test.parquet": ("kaggle", 8487, None),
    "llmeval2.parquet": ("kaggle", 2553, None),
    "llmfao_crowd_majority.parquet": ("kaggle", 2139, None),
    "llmfao_crowd_votes.parquet": ("kaggle", 8931, None),
    "pandalm_testset.parquet": ("kaggle", 999, None),
}


@needs_data
@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_real_files(path: Path) -> None:
    if path.name not in EXPECTED:
        with pytest.raises(tb.TiebreakError, match="unknown format; its columns are"):
            tb.read(path)
        return
    form, rows, labels = EXPECTED[path.name]
    report = ingest.Report()
    tables = list(ingest.stream(path, report=report))
    assert report.formats == [form]
    assert report.rejected == 0
    assert sum(table.height for table in tables) == report.rows == rows
    assert labels is None or tuple(report.labels.values()) == labels


@needs_data
def test_the_kaggle_csv_and_its_parquet_are_the_same_table() -> None:
    table = tb.read(SHARED / "raw" / "kaggle_train_first_1000.csv")
    same = tb.read(SHARED / "kaggle_lmsys_1k.parquet")
    assert table.drop("source").equals(same.drop("source"))
    raw = pl.read_csv(SHARED / "raw" / "kaggle_train_first_1000.csv", infer_schema=False)
    assert table["prompt"].to_list() == [json.loads(cell) for cell in raw["prompt"]]
    assert table["response_b"].to_list() == [json.loads(cell) for cell in raw["response_b"]]


@needs_data
def test_the_transcripts_lose_no_word() -> None:
    path = SHARED / "raw" / "hh_rlhf_harmless_base_test.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        originals = [json.loads(line) for line in stream]
    table = tb.read(path)
    assert table["label"].is_in(["a", "b"]).all()
    assert 0.45 < (table["label"] == "a").mean() < 0.55  # type: ignore[operator]
    for row, original in zip(table.iter_rows(named=True), originals, strict=True):
        for side, name in (
            (("a", "chosen"), ("b", "rejected")) if row["label"] == "a" else (("b", "chosen"), ("a", "rejected"))
        ):
            said = " ".join(
                text for pair in zip(row["prompt"], row[f"response_{side}"], strict=True) for text in pair if text
            )
            expected = original[name].replace("\n\nHuman:", " ").replace("\n\nAssistant:", " ")
            if row["response_a"].count(None) or row["response_b"].count(None):
                continue
            assert said.split() == expected.split()
