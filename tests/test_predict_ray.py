"""The same rows on Ray Data: two actors here, faults included. Ray takes seconds to start, hence slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from predict_faults import DIE, environment
from tiebreak import judges, predict, samples
from tiebreak.errors import MissingExtraError, ResourceError
from tiebreak.judges import Runtime

pytest.importorskip("ray")
CHUNK = 8
IN_ACTORS = '"default_worker.py" in " ".join(sys.orig_argv)'


def rows() -> pl.DataFrame:
    votes = samples.votes()
    return votes.with_columns(id=pl.int_range(votes.height).cast(pl.String))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    rows().write_parquet(tmp_path / "votes.parquet")
    whole = predict.Plan(None, Runtime(), tmp_path / "one.parquet", "parquet", "x", CHUNK)
    predict.predict_file(iter([rows()]), judges.load(), whole.output, form="parquet", identity="x", chunk_rows=CHUNK)
    return tmp_path


def on_ray(here: Path, *more: str, faults: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """As a user would; a process of its own, because a driver holds one Ray at a time and Ray's threads outlive it."""
    command = [sys.executable, "-m", "tiebreak", "predict", str(here / "votes.parquet"), "-o", str(here / "p.parquet"),
               "--chunk-rows", str(CHUNK), "--engine", "ray", "--workers", "2", *more]  # fmt: skip
    return subprocess.run(
        command, env={**os.environ, **(faults or {})}, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
def test_actors_write_the_bytes_of_one_process_and_ray_keeps_quiet(here: Path) -> None:
    done = on_ray(here, "--json")
    assert done.returncode == 0, done.stderr
    assert (here / "p.parquet").read_bytes() == (here / "one.parquet").read_bytes()
    assert json.loads(done.stdout)["rows"] == 60
    assert [line.split(":")[0] for line in done.stderr.splitlines() if not line.startswith("  ")] == [
        "predict", f"wrote 60 predictions to {here / 'p.parquet'} (parquet); judge",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_dead_actor_costs_nothing(here: Path) -> None:
    faults = environment(here, f'if "40" in table["id"] and first_time("died"):\n    {DIE}', condition=IN_ACTORS)
    done = on_ray(here, "--json", faults=faults)
    assert done.returncode == 0, done.stderr
    assert (here / "died").exists()
    assert json.loads(done.stdout)["retried"] >= 1
    assert "an actor died; done again by another: chunks" in done.stderr
    assert (here / "p.parquet").read_bytes() == (here / "one.parquet").read_bytes()


@pytest.mark.slow
def test_a_chunk_that_kills_its_actors_ends_the_run_and_resume_needs_only_the_rest(here: Path) -> None:
    faults = environment(here, f'if "40" in table["id"]:\n    {DIE}', condition=IN_ACTORS)
    broken = on_ray(here, faults=faults)
    assert broken.returncode == ResourceError.exit_code, broken.stderr
    assert "two actors died with chunk 5" in broken.stderr
    assert "--resume" in broken.stderr
    kept = len(list((here / "p.parquet.parts").glob("0*.parquet")))
    done = on_ray(here, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reused"] in {kept * CHUNK, kept * CHUNK - 4}
    assert (here / "p.parquet").read_bytes() == (here / "one.parquet").read_bytes()


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(predict.on_ray, "find_spec", lambda name: None)
    plan = predict.Plan(None, Runtime(), tmp_path / "p.parquet", "parquet", "x", CHUNK, workers=2)
    with pytest.raises(MissingExtraError, match=r'pip install "tiebreak\[ray\]"'):
        predict.predict_ray(iter([rows()]), plan)


def test_a_cluster_that_is_not_there_is_named_at_once_and_nothing_is_left(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    plan = predict.Plan(None, Runtime(), tmp_path / "p.parquet", "parquet", "x", CHUNK, workers=2)
    with pytest.raises(ResourceError, match=r"Ray cannot be reached at 127\.0\.0\.1:1.*RAY_ADDRESS"):
        predict.predict_ray(iter([rows()]), plan)
    assert list(tmp_path.iterdir()) == []
