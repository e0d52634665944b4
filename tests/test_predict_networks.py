"""A fine-tuned judge on several workers: the same bytes whoever judges, ledger and all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("torch")

import tiny
from predict_faults import environment
from tiebreak import predictions, samples
from tiebreak.judges.base import Base, Head
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.model import JudgeModel
from tiebreak.render import template

pytestmark = pytest.mark.slow
ONE_THREAD = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Votes, a tiny judge, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("networks")
    base = Base(name=str(tiny.save(folder / "base", "qwen2")))
    judge = ClassifierJudge.make(
        name="tiny", model=JudgeModel.build(base, Head(), "classifier").eval(), tokenizer=tiny.tokenizer(),
        template=template("plain", max_length=192), base=base, head=Head(),
    )  # fmt: skip
    judge.save(folder / "judge")
    samples.votes().write_parquet(folder / "votes.parquet")
    done = run(folder, "one.parquet")
    assert done.returncode == 0, done.stderr
    return folder


def run(
    here: Path, output: str, *more: str, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tiebreak", "predict", str(here / "votes.parquet"), "-j", str(here / "judge"),
               "-o", str(here / output), "--chunk-rows", "16", "--json", *more]  # fmt: skip
    return subprocess.run(
        command, env={**os.environ, **ONE_THREAD, **(variables or {})}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["local", "torchrun", "ray"])
def test_every_engine_writes_the_same_bytes(engine: str, here: Path) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    done = run(here, f"{engine}.parquet", "--engine", engine, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert (here / f"{engine}.parquet").read_bytes() == (here / "one.parquet").read_bytes()
    found, table = json.loads(done.stdout), pl.read_parquet(here / "one.parquet")
    assert found["tokens"] == table.select(pl.sum_horizontal(pl.col("^tokens_.*$")).sum()).item()
    assert found["kept"] == table.select(pl.sum_horizontal(pl.col("^kept_.*$")).sum()).item() < found["tokens"]
    assert found["truncated"] == table["truncated"].sum() > 0
    assert set(predictions.LEDGER) <= set(table.columns)


def test_a_run_of_one_process_is_finished_by_two_on_other_devices(here: Path) -> None:
    """Neither workers nor devices nor the token budget belong to a run; in fp32 they are below 1e-5."""
    exact = ("--precision", "fp32", "--devices", "cpu")
    whole = run(here, "whole.parquet", *exact)
    assert whole.returncode == 0, whole.stderr
    body = 'if (here / "votes.parquet.stop").exists() and (here / "again").exists():\n    os._exit(9)\n'
    body += '(here / "again").touch()'
    site = environment(here, body, condition='"predict" in sys.orig_argv')
    (here / "sitecustomize.py").write_text(
        (here / "sitecustomize.py").read_text()
        .replace("tiebreak.judges.features import FeaturesJudge", "tiebreak.judges.classifier import ClassifierJudge")
        .replace("FeaturesJudge", "ClassifierJudge")
    )  # fmt: skip
    (here / "votes.parquet.stop").touch()
    stopped = run(here, "p.parquet", *exact, variables={"PYTHONPATH": site["PYTHONPATH"]})
    assert stopped.returncode == 9, stopped.stderr
    other = ("--precision", "fp32", "--devices", "cpu,cpu", "--max-tokens", "256", "--workers", "2")
    resumed = run(here, "p.parquet", "--resume", *other)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["reused"] == 16
    columns = [pl.read_parquet(here / name).select(predictions.PROBABILITIES).to_numpy()
               for name in ("p.parquet", "whole.parquet")]  # fmt: skip
    assert abs(columns[0] - columns[1]).max() < 1e-5


def test_another_choice_that_changes_answers_is_another_run(here: Path) -> None:
    (here / "q.parquet.parts").mkdir()
    done = run(here, "q.parquet", "--dry-run")
    assert done.returncode == 0, done.stderr
    (here / "q.parquet.parts" / "run.json").write_text(json.dumps({"identity": "of another run"}))
    refused = run(here, "q.parquet", "--resume", "--max-length", "128")
    assert refused.returncode == 2
    assert "another input, judge or setting" in refused.stderr


def test_a_judge_that_cannot_run_says_so_once_from_the_worker(here: Path) -> None:
    done = run(here, "r.parquet", "--workers", "2", "--base", str(here / "base"))
    assert done.returncode == 2
    assert done.stderr.count("this bundle holds all its weights") == 1
