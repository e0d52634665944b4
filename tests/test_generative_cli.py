"""`tiebreak wrap generative` and what follows it, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import finetune_rows
import tiny
from conftest import tiebreak
from generative_made import SHAPE
from tiebreak import bundle, cli, predictions
from tiebreak.errors import UsageError


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model, votes and a template of few words."""
    folder = tmp_path_factory.mktemp("here")
    tiny.save_language_model(folder / "model")
    finetune_rows.votes(12).write_parquet(folder / "votes.parquet")
    (folder / "short.json").write_text(json.dumps({"name": "pab", **SHAPE}))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_from_a_model_to_predictions(here: Path) -> None:
    ran = tiebreak(
        "wrap", "generative", "model", "-o", "judge", "--template", "short.json", "--spell", "tie=C", "--spell",
        "tie= equal", "--json", cwd=here,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)["judge"]["settings"]["verdicts"]
    assert said == {"a": ["A"], "b": ["B"], "tie": ["C", " equal"]}
    assert "questions a comparison" in ran.stderr  # " equal" is several tokens
    ran = tiebreak("predict", "votes.parquet", "-j", "judge", "-o", "p.parquet", "--precision", "fp32", cwd=here)
    assert ran.returncode == 0, ran.stderr
    found = pl.read_parquet(here / "p.parquet")
    assert found["id"].to_list() == [str(i) for i in range(12)]
    np.testing.assert_allclose(predictions.probabilities(found).sum(axis=1), 1)
    assert ran.stdout == ""


def test_a_warning_where_the_model_will_not_say_a_verdict(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One token of 400 with random weights: the model was going to write something else."""
    judge, output = here / "unlikely", here / "unlikely.parquet"
    code, _, said = run(
        capsys, "wrap", "generative", here / "model", "-o", judge, "--template", here / "short.json",
        "--verdicts", "~,^,|",
    )  # fmt: skip
    assert code == 0, said
    code, _, said = run(capsys, "predict", here / "votes.parquet", "-j", judge, "-o", output, "--chunk-rows", "4")
    assert code == 0, said
    assert said.count("warning: the verdicts hold") == 1


def test_examples_from_votes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrap = ["wrap", "generative", here / "model", "--template", here / "short.json", "--shots", here / "votes.parquet"]
    code, _, said = run(capsys, *wrap, "-o", here / "shots", "--shot-length", "150", "--max-length", "900", "--json")
    assert code == 0, said
    assert "3 examples of" in said
    assert bundle.read(here / "shots").settings["shots"]["count"] == 3  # type: ignore[index, call-overload]
    code, _, said = run(capsys, *wrap, "-o", here / "none")
    assert code == UsageError.exit_code
    assert "no comparison fits behind them" in said
    assert not (here / "none").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--verdicts", "A,B"], "three spellings"),
        (["--spell", "draw=C"], "a=TEXT, b=TEXT or tie=TEXT"),
        (["--spell", "tie=A"], "a spelling of a"),
        (["--backend", "vlm"], "--backend vllm"),
        (["--template", "nope"], "no template 'nope'"),
        (["--quantize", "int4"], "one of nf4"),
    ],
)
def test_options_that_are_wrong(here: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    code, out, said = run(capsys, "wrap", "generative", here / "model", "-o", here / "wrong", *options)
    assert code == UsageError.exit_code
    assert words in said
    assert out == ""
    assert not (here / "wrong").exists()


def test_a_server_is_for_one_backend_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = run(
        capsys, "wrap", "generative", here / "model", "-o", here / "plain", "--template", here / "short.json"
    )
    assert code == 0, said
    code, _, said = run(
        capsys, "predict", here / "votes.parquet", "-j", here / "plain", "-o", here / "q.parquet",
        "--server", "http://127.0.0.1:1/v1",
    )  # fmt: skip
    assert code == UsageError.exit_code
    assert "--backend openai" in said


def test_the_recipe_that_ships_is_refused_spellings_that_cannot_be_trained(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = run(
        capsys, "train", "smollm2-135m-verdict", f"base.name={here / 'model'}", "base.shape=null",
        "verdicts.tie=[ neither]", "--data", here / "votes.parquet", "-o", here / "trained", "--dry-run",
    )  # fmt: skip
    assert code == UsageError.exit_code
    assert "are several tokens" in said
