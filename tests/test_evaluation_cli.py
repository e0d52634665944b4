"""`tiebreak evaluate` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from evaluation_rows import judged, votes


@pytest.fixture
def files(tmp_path: Path) -> Path:
    table = votes(80)
    table.write_parquet(tmp_path / "votes.parquet")
    judged(table).write_parquet(tmp_path / "p.parquet")
    judged(table, seed=1, skill=0.1).write_csv(tmp_path / "other.csv")
    columns = {"p_a": "winner_model_a", "p_b": "winner_model_b", "p_tie": "winner_tie"}
    judged(table).select("id", *columns).rename(columns).write_csv(tmp_path / "submission.csv")
    table.select("id", "label").write_csv(tmp_path / "labels.csv")
    return tmp_path


def run(files: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tiebreak", "evaluate", *arguments, "--resamples", "50"],
        cwd=files, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_table_on_stdout_report_on_disk(files: Path) -> None:
    done = run(files, "p.parquet", "--labels", "votes.parquet", "-o", "report", "--against", "other.csv")
    assert done.returncode == 0, done.stderr
    for words in ("p.parquet", "other.csv", "Class prior", "Length only", "log-loss", "ece"):
        assert words in done.stdout
    assert (files / "report" / "index.html").is_file()
    assert "report/index.html" in done.stderr
    assert "index.html" not in done.stdout


def test_json_submission_and_labels_without_texts(files: Path) -> None:
    whole = json.loads(run(files, "p.parquet", "--labels", "votes.parquet", "--json").stdout)
    bare = json.loads(run(files, "submission.csv", "--labels", "labels.csv", "--json").stdout)
    assert whole["json_version"] == 1
    assert bare["metrics"]["log_loss"]["value"] == whole["metrics"]["log_loss"]["value"]
    assert "length" not in bare["baselines"]
    assert "length" in whole["baselines"]


def test_a_failing_gate_is_exit_6_after_all_is_written(files: Path) -> None:
    done = run(
        files, "p.parquet", "--labels", "votes.parquet", "-o", "report", "--fail-if", "accuracy<2", "--fail-if", "ece<0"
    )
    assert done.returncode == 6
    assert "accuracy<2: accuracy is 0." in done.stderr
    assert "1 quality gate failed" in done.stderr
    assert (files / "report" / "metrics.json").is_file()
    assert "log-loss" in done.stdout
    assert run(files, "p.parquet", "--labels", "votes.parquet", "--fail-if", "accuracy>2").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("p.parquet", "--labels", "votes.parquet", "--fail-if", "acuracy<2"), 2, "did you mean 'accuracy'"),
        (("p.parquet", "--labels", "votes.parquet", "--fail-if", "accuracy"), 2, "cannot be read"),
        (("p.parquet", "--labels", "votes.parquet", "-o", "no/where"), 2, "mkdir"),
        (("p.parquet",), 2, "--labels"),
        (("votes.parquet", "--labels", "votes.parquet"), 3, "votes.parquet"),
        (("absent.parquet", "--labels", "votes.parquet"), 3, "absent.parquet"),
        (("p.parquet", "--labels", "absent.parquet"), 3, "absent.parquet"),
        (("p.parquet", "--labels", "few.parquet"), 3, "no comparison"),
    ],
)
def test_failures_have_codes_and_words(files: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    votes(80)[:10].write_parquet(files / "few.parquet")
    done = run(files, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_judge_on_its_own_training_votes_is_pointed_out(files: Path) -> None:
    from tiebreak import bundle, comparisons

    table = pl.read_parquet(files / "votes.parquet")
    source = bundle.TrainingSource(name="my-votes", rows=80, fingerprint=comparisons.fingerprint(table))
    bundle.write(
        files / "judge", bundle.Manifest(kind="features", name="x", swap_equivariant=True, training=[source]), {}
    )
    done = run(files, "p.parquet", "--labels", "votes.parquet", "-o", "report", "--judge", "judge")
    assert done.returncode == 0
    assert "trained on these very votes (my-votes)" in done.stderr
    assert "trained on these very votes" in (files / "report" / "index.html").read_text()
