"""From a judge to a valid submission with the network off: packed, checked and run by the command line itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import polars as pl
import pytest

from tiebreak import samples
from tiebreak.ingest.kaggle import WINNERS

pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[2] / "shared" / "data" / "raw"
COMPETITION = ("--competition", "llm-classification-finetuning", "--user", "someone")
Tiebreak = Callable[..., CompletedProcess[str]]


@pytest.fixture
def tiebreak(cli: Tiebreak) -> Tiebreak:
    """The command line, with the patience that an environment made from nothing takes on a busy machine."""
    return partial(cli, timeout=900)


@pytest.fixture(scope="module")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public test file of the competition; three rows of our own in its form where it is not there."""
    if (SHARED / "kaggle_test.csv").is_file():
        return SHARED / "kaggle_test.csv"
    cells = pl.col("prompt", "response_a", "response_b").map_elements(
        lambda turns: json.dumps(turns.to_list()), return_dtype=pl.String
    )
    path = tmp_path_factory.mktemp("test") / "test.csv"
    samples.votes().head(3).select("id", cells).write_csv(path)
    return path


def ids_of(path: Path) -> list[str]:
    return pl.read_csv(path, infer_schema=False)["id"].to_list()


def submitted(text: str) -> dict[str, list[float]]:
    """The submission that `check` prints."""
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["id", *WINNERS]
    return {row["id"]: [float(row[name]) for name in WINNERS] for row in rows}


def held(result: CompletedProcess[str], test_file: Path) -> dict[str, list[float]]:
    assert result.returncode == 0, result.stderr
    found = submitted(result.stdout)
    assert list(found) == ids_of(test_file)
    assert all(abs(sum(p) - 1) < 1e-9 and min(p) > 0 for p in found.values())
    assert "lo alone" in result.stderr
    assert "tried by the notebook: 0" in result.stderr
    return found


def test_the_embedded_judge(tiebreak: Tiebreak, test_file: Path, tmp_path: Path) -> None:
    packed = tiebreak("kaggle", "pack", *COMPETITION, "-o", "out", cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    assert sum(path.stat().st_size for path in (tmp_path / "out" / "wheels").iterdir()) <= 80e6
    found = held(tiebreak("kaggle", "check", "out", "--test", test_file, cwd=tmp_path), test_file)
    direct = tiebreak("predict", test_file, "--format", "kaggle", "-o", "direct.csv", cwd=tmp_path)
    assert direct.returncode == 0, direct.stderr
    assert submitted((tmp_path / "direct.csv").read_text(encoding="utf-8")) == found


def test_a_fine_tuned_judge_and_its_time_guard(tiebreak: Tiebreak, test_file: Path, tmp_path: Path) -> None:
    """Adapter and base go into the model, torch into the wheels; with too little time the cheaper judge finishes."""
    samples.votes().head(20).write_parquet(tmp_path / "votes.parquet")
    trained = tiebreak(
        "train", "smollm2-135m-lora", "max_steps=1", "templates.0.max_length=192", "--data", "votes.parquet",
        "-o", "judge", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    packed = tiebreak("kaggle", "pack", "judge", *COMPETITION, "-o", "out", cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    found = held(tiebreak("kaggle", "check", "out", "--test", test_file, cwd=tmp_path), test_file)
    direct = tiebreak("predict", test_file, "-j", "judge", "--format", "kaggle", "-o", "direct.csv", cwd=tmp_path)
    assert direct.returncode == 0, direct.stderr
    for name, p in submitted((tmp_path / "direct.csv").read_text(encoding="utf-8")).items():
        assert found[name] == pytest.approx(p, abs=1e-5)
    hurried = tiebreak(
        "kaggle", "run", "out", "-o", "ran", "--test", test_file, "--rows", "3000", "--hours", "0.04", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert hurried.returncode == 0, hurried.stderr
    run = json.loads(hurried.stdout)
    assert run["rows"] == 3000
    assert 0 < run["rows_otherwise"] <= 3000
    assert "the time was up" in run["reason"]
    assert len(set(ids_of(tmp_path / "ran" / "submission.csv"))) == 3000
