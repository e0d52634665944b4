"""Packs with real wheels, run as Kaggle would run them: the submission is what the judge says here, digit by digit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import judges_made
import kaggle_packing
from kaggle_packing import LMSYS
from tiebreak import comparisons, samples

pytestmark = pytest.mark.slow

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge with an adapter, a blend of it and counted features, and a test file."""
    root = tmp_path_factory.mktemp("real")
    judges_made.classifier(root / "base").save(root / "adapter")
    cheap = kaggle_packing.features(root / "cheap")
    kaggle_packing.blend(root / "blend", {"cheap": cheap, "dear": root / "adapter"}, refer=["cheap"])
    cells = pl.col(*comparisons.TEXTS).map_elements(
        lambda turns: json.dumps(turns.to_list()), return_dtype=pl.String
    )  # fmt: skip
    samples.votes().head(12).select("id", cells).write_csv(root / "test.csv")
    return root


def same(one: str, other: str) -> bool:
    return one.strip().splitlines() == other.strip().splitlines()


@pytest.mark.parametrize("judge", ["adapter", "blend"])
def test_the_submission_is_what_the_judge_says_here(judge: str, place: Path, cli: Cli) -> None:
    packing = ["--competition", LMSYS, "--user", "someone", "--precision", "fp32", "-o", f"{judge}-pack"]
    done = cli("kaggle", "pack", judge, *packing, cwd=place)
    assert done.returncode == 0, done.stderr
    done = cli("kaggle", "check", f"{judge}-pack", "--test", "test.csv", cwd=place)
    assert done.returncode == 0, done.stderr
    said = cli(
        "predict", "test.csv", "-j", judge, "--precision", "fp32", "--format", "kaggle", "-o", f"{judge}.csv", cwd=place
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert same(done.stdout, (place / f"{judge}.csv").read_text())


def test_a_base_that_kaggle_has_is_found_by_its_weights(place: Path, cli: Cli) -> None:
    there = "someone-else/tiny/transformers/tiny-base/3"
    packing = ["--competition", LMSYS, "--user", "someone", "--no-needs-gpu", "--base-model", there, "-o", "less"]
    done = cli("kaggle", "pack", "adapter", *packing, cwd=place)
    assert done.returncode == 0, done.stderr
    assert not (place / "less" / "model" / "base").exists()
    done = cli("kaggle", "check", "less", "--test", "test.csv", cwd=place)
    assert done.returncode != 0
    assert "--base DIR" in done.stderr
    done = cli("kaggle", "check", "less", "--test", "test.csv", "--base", "base", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rehearsal"]["rows_otherwise"] == 0
