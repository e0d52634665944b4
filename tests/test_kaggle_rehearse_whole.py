"""Real packs, packed and rehearsed by the command line: what is printed is what `tiebreak predict` says here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import SHARED, tiebreak
from tiebreak import predictions

pytestmark = pytest.mark.slow
REAL = SHARED / "raw" / "kaggle_test.csv"
PROBABILITIES = ["winner_model_a", "winner_model_b", "winner_tie"]


def packed(folder: Path, competition: str, *more: str) -> Path:
    done = tiebreak("kaggle", "pack", "--competition", competition, "--user", "someone", "-o", folder, *more)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packs") / "embedded", "llm-classification-finetuning")


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data")
@pytest.mark.parametrize("options", [["--mounts", "new"], ["--mounts", "old"], ["--isolation", "python"]])
def test_check_prints_what_predict_says(embedded: Path, tmp_path: Path, options: list[str]) -> None:
    done = tiebreak("kaggle", "check", embedded, "--test", REAL, *options)
    assert done.returncode == 0, done.stderr
    assert "✗" not in done.stderr
    assert done.stderr.count("✓") == 8
    alone = tiebreak("predict", REAL, "--format", "kaggle", "-o", tmp_path / "alone.csv")
    assert alone.returncode == 0, alone.stderr
    printed, wanted = pl.read_csv(done.stdout.encode()), pl.read_csv(tmp_path / "alone.csv")
    assert printed["id"].equals(wanted["id"])
    np.testing.assert_allclose(
        printed.select(PROBABILITIES).to_numpy(), wanted.select(PROBABILITIES).to_numpy(), atol=1e-12
    )


def test_a_hidden_test_set_of_many_rows(embedded: Path, tmp_path: Path) -> None:
    done = tiebreak("kaggle", "run", embedded, "-o", tmp_path / "kept", "--rows", "2000", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["rows"], said["rows_otherwise"], said["connections_refused"]) == (2000, 0, 0)
    assert list(said["stages"]) == ["environment", "find", "offline", "install", "judge", "verify"]
    table = pl.read_csv(tmp_path / "kept" / "submission.csv")
    assert table["id"].to_list() == list(range(1, 2001))
    p = table.select(PROBABILITIES).to_numpy()
    assert predictions.verdicts(p).shape == (2000,)
    assert len(np.unique(p, axis=0)) <= 60  # drawn from our sixty samples
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "submission.csv", "tiebreak.json", "log.txt", "executed.ipynb", "rehearsal.json", "memory.png",
    }  # fmt: skip


def test_a_wheel_that_was_altered_is_found_before_anything_runs(embedded: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(embedded, pack)
    wheel = next(pack.glob("wheels/rich-*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    done = tiebreak("kaggle", "check", pack, "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert not document["good"]
    assert document["submission"] is None
    assert [(check["name"], check["held"]) for check in document["checks"]] == [
        ("metadata", True), ("files", False), ("wheels", False), ("notebook", None),
    ]  # fmt: skip
    assert f"wheels/{wheel.name} was altered" in done.stderr


def test_winners_and_a_test_file_in_parquet(tmp_path: Path) -> None:
    pack = packed(tmp_path / "wsdm", "wsdm-cup-multilingual-chatbot-arena")
    done = tiebreak("kaggle", "check", pack)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "id,winner"
    assert {line.split(",")[1] for line in lines[1:]} <= {"model_a", "model_b"}


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can become somebody else")
def test_an_ordinary_user_rehearses_too(embedded: Path, tmp_path: Path) -> None:
    """With the system's Python, where it is of this version: a checkout in a home folder is closed to others."""
    python = Path("/usr/bin/python3")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=False) if python.exists() else None
    if asked is None or not asked.stdout.startswith(f"Python {version}."):
        pytest.skip(f"no Python {version} that an ordinary user could run")
    paths = [path for path in sys.path if path.endswith(("site-packages", "src"))]
    source = str(Path(__file__).parents[1] / "src")
    home = Path(f"/tmp/tiebreak-home-{os.getpid()}")  # noqa: S108
    home.mkdir()
    try:
        os.chown(home, 65534, 65534)
        subprocess.run(["cp", "-r", embedded, home / "pack"], check=True)
        subprocess.run(["chmod", "-R", "a+rX", home / "pack"], check=True)
        done = subprocess.run(
            [python, "-m", "tiebreak", "kaggle", "check", home / "pack", "--isolation", "namespaces"],
            capture_output=True, text=True, check=False, cwd=home, user=65534, group=65534, extra_groups=[],
            env={"PATH": os.defpath, "HOME": str(home), "PYTHONPATH": os.pathsep.join([source, *paths])},
        )  # fmt: skip
        if "PermissionError" in done.stderr or "No module named" in done.stderr:
            pytest.skip("this checkout is closed to an ordinary user")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("✓") == 8
    finally:
        subprocess.run(["rm", "-rf", home], check=True)
