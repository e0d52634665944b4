"""`tiebreak data clean|dedupe|split|overlap|stats` as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from prepare_rows import table
from tiebreak import comparisons

SHARED = Path(__file__).parents[2] / "shared" / "data"


def run(*arguments: str | Path, code: int = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tiebreak", "data", *map(str, arguments)], capture_output=True, text=True, input=stdin
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    rows = [(f"question {i}", f"answer {i}", f"reply {i}") for i in range(20)]
    frame = table(*rows, rows[0], ("question 3", "reply 3", "answer 3"), ("empty", "", "something"), ("void", "", " "),
                  label=["a", "b", "tie", "a"] * 6)  # fmt: skip
    frame.write_parquet(path := tmp_path / "votes.parquet")
    return path


def test_clean(votes: Path) -> None:
    out, report = votes.with_name("clean.parquet"), votes.with_name("clean.json")
    done = run("clean", votes, "--empty", "lose", "-o", out, "--report", report)
    assert done.stdout == ""
    assert "both empty: 1 row, policy drop: 1 dropped" in done.stderr
    assert "empty: 1 row, policy lose: 1 relabelled" in done.stderr
    kept = comparisons.validate(pl.read_parquet(out))
    assert kept.height == 23
    assert kept["label"][-1] == "b"
    written = json.loads(report.read_text())
    assert (written["json_version"], written["dropped_ids"]) == (1, ["23"])


def test_dedupe(votes: Path) -> None:
    out = votes.with_name("unique.parquet")
    done = run("dedupe", votes, "--conflicts", "majority", "-o", out, "--json")
    assert json.loads(done.stdout)["dropped_ids"] == ["20", "21"]
    assert "dropped 2 copies, kept 22 rows" in done.stderr
    kept = comparisons.validate(pl.read_parquet(out))
    assert kept["group"].null_count() == 0
    assert kept["id"].to_list() == [str(i) for i in (*range(20), 22, 23)]


def test_split_to_folds_does_not_depend_on_row_order(votes: Path) -> None:
    run("split", votes, "--folds", "4", "--seed", "3", "-o", votes.with_name("folded.parquet"))
    folded = pl.read_parquet(votes.with_name("folded.parquet"))
    turned = votes.with_name("turned.parquet")
    pl.read_parquet(votes).reverse().write_parquet(turned)
    lines = run("split", turned, "--folds", "4", "--seed", "3", "-o", "-").stdout.splitlines()
    assert {row["id"]: row["fold"] for row in map(json.loads, lines)} == dict(folded.select("id", "fold").iter_rows())
    assert folded["fold"].value_counts()["count"].is_between(5, 7).all()


def test_split_to_parts_that_do_not_overlap(votes: Path) -> None:
    parts = votes.with_name("parts")
    done = run("split", votes, "--fractions", "train=.75,test=.25", "--twins", "-o", parts, "--json")
    counts = {name: part["rows"] for name, part in json.loads(done.stdout)["parts"].items()}
    assert counts == {"train": 36, "test": 12}
    run("overlap", parts / "train.parquet", parts / "test.parquet", "--fail-if-any")
    assert pl.read_parquet(parts / "test.parquet")["id"][1].endswith("#swapped")


def test_overlap_lists_drops_and_fails(votes: Path) -> None:
    other = votes.with_name("other.parquet")
    table(("QUESTION 7", "x", "y"), ("new", "z", "w"), ("another", "reply 2", "Answer 2")).write_parquet(other)
    done = run("overlap", votes, other)
    assert done.stdout.split() == ["0", "2"]
    assert "2 rows of 3 (66.7%)" in done.stderr
    out = votes.with_name("new.parquet")
    done = run("overlap", votes, other, "--drop", "-o", out, "--fail-if-any", code=6)
    assert "to mend: tiebreak data overlap" in done.stderr
    assert pl.read_parquet(out)["id"].to_list() == ["1"]
    assert json.loads(run("overlap", votes, other, "--json").stdout)["counts"]["same pair"] == 1


def test_stats_of_a_raw_file_with_a_leak(tmp_path: Path) -> None:
    lines = [
        {"prompt": f"p {i}", "response_a": f"a {i}", "response_b": f"b {i}", "label": "ab"[i % 2], "argmax": i % 2}
        for i in range(40)
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    mapping = [f"--map={name}={name}" for name in ("prompt", "response_a", "response_b", "label")]
    done = run("stats", path, *mapping)
    assert "warning: column argmax: gives away the label" in done.stderr
    assert "50.0%" in done.stdout
    document = json.loads(run("stats", path, *mapping, "--json").stdout)
    assert document["labels"] == {"a": 20, "b": 20, "tie": 0, "none": 0}
    assert [leak["columns"] for leak in document["leaks"]] == [["argmax"]]


def test_dry_runs_write_nothing(votes: Path) -> None:
    before = sorted(votes.parent.iterdir())
    for command in (["clean"], ["dedupe"], ["split", "--folds", "3"], ["split", "--fractions", "a=.5,b=.5"]):
        done = run(command[0], votes, *command[1:], "--dry-run", "-o", votes.parent / "out.parquet")
        assert "would write" in done.stderr
    run("overlap", votes, votes, "--drop", "--dry-run", "-o", votes.parent / "out.parquet")
    assert sorted(votes.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("clean",), 2, "no output given"),
        (("clean", "-o", "out.txt"), 2, "expected .parquet or .jsonl"),
        (("clean", "-o", "nowhere/out.parquet"), 2, "mkdir -p nowhere"),
        (("clean", "-o", "-", "--json"), 2, "both write to stdout"),
        (("clean", "--empty", "win", "--dry-run"), 2, "keep or drop or lose"),
        (("dedupe", "--threshold", "0", "--dry-run"), 2, "threshold 0"),
        (("dedupe", "--conflicts", "loudest", "--dry-run"), 2, "keep-first"),
        (("split", "-o", "out.parquet"), 2, "either --folds"),
        (("split", "--folds", "3", "--fractions", "a=1", "-o", "out.parquet"), 2, "either --folds"),
        (("split", "--fractions", "a=.5,../b=.5", "-o", "parts"), 2, "NAME=SHARE"),
        (("split", "--fractions", "a=.5,b=.6", "-o", "parts"), 2, "sum 1"),
        (("split", "--folds", "100", "--dry-run"), 3, "groups"),
    ],
)
def test_failures_say_what_was_expected(votes: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert words in run(arguments[0], votes, *arguments[1:], code=code).stderr


def test_a_missing_file_and_a_broken_table(tmp_path: Path) -> None:
    run("dedupe", tmp_path / "none.parquet", "-o", tmp_path / "out.parquet", code=3)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 is not enough")
    run("stats", tmp_path / "broken.parquet", code=3)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_a_file_as_users_have_it(tmp_path: Path) -> None:
    document = json.loads(run("stats", SHARED / "raw" / "kaggle_train_first_1000.csv", "--json").stdout)
    assert document["rows"] == 1000
    assert document["leaks"] == []
    run("dedupe", SHARED / "raw" / "kaggle_train_first_1000.csv", "-o", tmp_path / "unique.parquet")
    assert pl.read_parquet(tmp_path / "unique.parquet")["group"].n_unique() < 1000
