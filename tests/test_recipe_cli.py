"""`tiebreak train RECIPE` and `tiebreak recipe`, as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import polars as pl
import pytest

import tiny
from tiebreak import samples
from tiebreak.train.finetune import read

Cli = Callable[..., CompletedProcess[str]]


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    samples.votes().write_parquet(tmp_path / "votes.parquet")
    return tmp_path / "votes.parquet"


def dry_run(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    result = cli("train", *arguments, "--dry-run", "--json")
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def measured(*arguments: str | Path) -> tuple[dict[str, Any], int]:
    """A dry run, and the KiB it held at most: told by a process of its own, whose only child it is."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "sys.stderr.write(f'\\n{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}')"
    )
    line = [sys.executable, "-m", "tiebreak", "train", *map(str, arguments), "--dry-run", "--json"]
    result = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, check=True)
    assert "Warning" not in result.stderr
    return json.loads(result.stdout), int(result.stderr.splitlines()[-1])


def test_s1_dry_runs_at_its_real_size(votes: Path) -> None:
    found, peak = measured("gemma2-9b-qlora-1x16gb", "--data", votes, "--rate", "1000")
    assert found["parameters"] == {"total": 9_249_597_440, "trainable": 7_891_456, "head": 10_752}
    assert found["work"]["steps"] == -(-found["work"]["train_rows"] // 6)
    assert found["seconds"] == pytest.approx(found["work"]["tokens"] / 1000)
    assert 5 * 2**30 < found["memory"]["total"] < 16 * 2**30
    assert found["first_row"][0].startswith("<prompt>: ")
    assert found["recipe"]["data"]["train"] == [str(votes)]
    assert peak < 2 * 2**20


def test_s0_dry_runs_at_its_real_size(votes: Path) -> None:
    found, peak = measured("llama3-8b-full-human-pref", "--data", votes, "--processes", "8")
    assert found["parameters"]["trainable"] == found["parameters"]["total"] == 7_513_321_475
    assert found["work"]["sequences_per_step"] == 16 * 2 * 2
    assert found["memory"]["total"] < 40 * 2**30
    assert peak < 2 * 2**20


def test_a_dry_run_for_people(cli: Cli, votes: Path, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", "llama")
    result = cli("train", "smollm2-135m-lora", f"base.name={folder}", "base.shape=null", "folds=3", "--data", votes,
                 "--dry-run")  # fmt: skip
    assert result.returncode == 0, result.stderr
    for expected in (
        "trainable parameters",
        "3 x 1 epochs",
        "activations",
        "tokens of the first vote",
        "verdict is: [[",
    ):
        assert expected in result.stdout
    assert "60 rows of 1 file in 59 groups" in result.stderr
    assert not list(tmp_path.glob("*.run"))


@pytest.mark.slow
def test_a_judge_is_trained_and_its_recipe_kept(cli: Cli, votes: Path, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", "llama")
    changes = [f"base.name={folder}", "base.shape=null", "precision=fp32", "max_steps=2", "batches.rows=4",
               "templates.0.name=plain", "evaluation.every=1", "lora.r=2"]  # fmt: skip
    output = tmp_path / "judge"
    result = cli("train", "smollm2-135m-lora", *changes, "--data", votes, "-o", output, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["bundle"] == str(output)
    assert "held-out log-loss" in result.stderr
    kept = read.read(str(tmp_path / "judge.yaml"))
    assert kept == read.read("smollm2-135m-lora", [*changes, f"data.train=['{votes}']"])
    assert (tmp_path / "judge.report" / "index.html").is_file()
    predicted = cli("predict", votes, "--judge", output, "-o", tmp_path / "p.parquet")
    assert predicted.returncode == 0, predicted.stderr
    assert pl.read_parquet(tmp_path / "p.parquet").height == 60


def test_help_explains_both_ways_to_train(cli: Cli) -> None:
    text = " ".join(cli("train", "--help").stdout.split())
    assert "RECIPE" in text
    assert "features" in text
    assert "tiebreak train smollm2-135m-lora" in text
    assert "--dry-run" in cli("train", "smollm2-135m-lora", "--help").stdout
    assert "--support" in cli("train", "features", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smolm2-135m-lora", "--dry-run"], "did you mean smollm2-135m-lora"),
        (["feature"], "Did you mean 'features'?"),
        (["smollm2-135m-lora"], "no place for the judge was named; expected -o DIRECTORY"),
        (["smollm2-135m-lora", "-o", "x"], "names no votes; expected --data FILE"),
        (["smollm2-135m-lora", "batch.rows=8", "--dry-run"], "unknown key 'batch'; to mend: write batches"),
        (["smollm2-135m-lora", "folds=2", "--validation", "v.csv", "--dry-run"], "--validation with folds 2"),
        (["smollm2-135m-lora", "--data", "absent.csv", "--dry-run"], "absent.csv"),
    ],
)
def test_what_is_wrong_is_said_at_once(cli: Cli, arguments: list[str], message: str) -> None:
    result = cli("train", *arguments)
    assert result.returncode in {2, 3}
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_recipes_are_listed_shown_and_copied(cli: Cli, tmp_path: Path) -> None:
    listed = json.loads(cli("recipe", "ls", "--json").stdout)["recipes"]
    assert set(listed) == set(read.shipped())
    assert listed["gemma2-9b-qlora-1x16gb"]["model"] == "google/gemma-2-9b-it"
    assert "smollm2-135m-lora" in cli("recipe", "ls").stdout
    shown = cli("recipe", "show", "minilm-l6-cpu").stdout
    assert shown == read.source("minilm-l6-cpu")[0]
    resolved = cli("recipe", "show", "minilm-l6-cpu", "--resolved", "epochs=7")
    (tmp_path / "resolved.yaml").write_text(resolved.stdout)
    assert read.read(str(tmp_path / "resolved.yaml")) == read.read("minilm-l6-cpu", ["epochs=7"])
    mine = tmp_path / "mine.yaml"
    assert cli("recipe", "cp", "minilm-l6-cpu", mine).returncode == 0
    assert mine.read_text().splitlines()[0] == "# tiebreak train mine.yaml --data train.csv -o judge"
    assert read.read(str(mine)) == read.read("minilm-l6-cpu")
    again = cli("recipe", "cp", "minilm-l6-cpu", mine)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert "did you mean minilm-l6-cpu" in cli("recipe", "show", "minilm-l6").stderr
