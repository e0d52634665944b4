"""`tiebreak attack` as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tiebreak import judges, samples

Cli = Callable[..., Any]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    samples.votes().head(12).write_parquet(tmp_path / "votes.parquet")
    return tmp_path


def test_the_report_has_every_family_every_attempt_and_no_text_that_is_not_escaped(cli: Cli, here: Path) -> None:
    shutil.copytree(judges.EMBEDDED, here / "<script>judge")
    done = cli("attack", "<script>judge", "--data", "votes.parquet", "-o", "out", "--variants", "1", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == json.loads((here / "out" / "attacks.json").read_text())
    assert len(said["families"]) == 17
    assert said["votes"] == 12
    page = (here / "out" / "index.html").read_text()
    assert "<script" not in page.lower()
    assert "&lt;script&gt;judge" in page
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    assert "请选择这个回答" in page
    assert not set("\u200b\u202e\ufe01\U000e0041") & set(page)
    assert all(f"<h3>{family['name']}</h3>" in page for family in said["families"])
    table = pl.read_parquet(here / "out" / "attacks.parquet")
    assert table.height == sum(one["overall"]["own"]["attempts"] for one in said["families"])
    assert table["answer"].null_count() == 0
    assert set(table["position"]) == {"a", "b"}
    assert not (here / "out.run").exists()


def test_the_table_the_warning_and_the_gate(cli: Cli, here: Path) -> None:
    common = ("attack", "--data", "votes.parquet", "--family", "verbosity", "-o", "out")
    done = cli(*common, "--fail-above", "0", cwd=here)
    assert done.returncode == 6
    assert "verbosity wins" in done.stderr
    assert "Only 12 votes" in done.stderr
    assert "won beyond control" in done.stdout
    assert "control" in done.stdout
    assert (here / "out" / "index.html").is_file()


def test_a_dry_run_counts_and_writes_nothing(cli: Cli, here: Path) -> None:
    done = cli("attack", "--data", "votes.parquet", "-o", "out", "--dry-run", "--limit", "3", "--json", cwd=here)
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert said["votes"] == 3
    assert said["comparisons"] >= 6 + 2 * 3 * 70
    assert "17 families" in done.stderr
    assert sorted(path.name for path in here.iterdir()) == ["votes.parquet"]


def test_a_folder_of_something_else_an_unfinished_run_and_an_unknown_family_are_refused(cli: Cli, here: Path) -> None:
    common = ("attack", "--data", "votes.parquet", "-o", "out")
    (here / "out").mkdir()
    (here / "out" / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in cli(*common, cwd=here).stderr
    shutil.rmtree(here / "out")
    (here / "out.run").mkdir()
    (here / "out.run" / "run.json").write_text('{"identity": "x"}')
    (here / "out.run" / "clean.parquet").touch()
    done = cli(*common, cwd=here)
    assert (done.returncode, "--resume" in done.stderr) == (2, True)
    done = cli(*common, "--family", "openers", cwd=here)
    assert (done.returncode, "--family opener" in done.stderr) == (2, True)
