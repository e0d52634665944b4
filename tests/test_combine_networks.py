"""Blends and cascades with a network among their members: choices of a run reach it, and it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from judges_made import classifier, real_rows
from tiebreak import bundle, comparisons, judges, predictions
from tiebreak.cli import run
from tiebreak.errors import UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.cascade import CascadeJudge
from tiebreak.predict import scale

pytestmark = pytest.mark.slow
ROWS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    classifier(folder / "base").save(folder / "tiny")
    verdicts = judges.load(folder / "tiny").predict(real_rows(ROWS))["label"]
    real_rows(ROWS).with_columns(label=verdicts).write_parquet(folder / "votes.parquet")
    fit = ["-q", "combine", "cascade", "embedded", str(folder / "tiny"), "--labels", str(folder / "votes.parquet")]
    goal = ["--budget", "0.7", "--cost", "embedded=1", "--cost", "tiny=9", "--route", "entropy", "--folds", "3"]
    assert run([*fit, *goal, "--answer", "last", "--devices", "cpu", "-o", str(folder / "cascade")]) == 0
    return folder


def said(judge: judges.Judge, rows: pl.DataFrame) -> np.ndarray:
    return predictions.probabilities(judge.predict(rows))


def test_the_network_answers_the_rows_that_reach_it(place: Path) -> None:
    rows = real_rows(ROWS)
    judge = judges.load(place / "cascade", Runtime(devices="cpu", precision="fp32"))
    assert isinstance(judge, CascadeJudge)
    done = judge.predict(rows)
    cheap = said(judges.load(), rows)
    went = (predictions.probabilities(done) != cheap).any(axis=1)
    assert 0 < went.sum() < ROWS
    assert judge.report["asked"] == {"embedded": ROWS, "tiny": int(went.sum())}
    assert judge.report["members"]["tiny"]["rows"] == went.sum()
    network = judges.load(place / "tiny", Runtime(devices="cpu", precision="fp32"))
    np.testing.assert_array_equal(
        predictions.probabilities(done)[went], said(network, rows.filter(pl.Series(went)))
    )  # fmt: skip
    np.testing.assert_allclose(predictions.probabilities(done)[went], said(network, rows)[went], atol=1e-5)
    parts = [said(judge, part) for part in rows.iter_slices(5)]
    np.testing.assert_allclose(np.concatenate(parts), predictions.probabilities(done), atol=1e-5)
    assert set(predictions.LEDGER).isdisjoint(done.columns), "rows that no tokens were counted for have no ledger"
    mirrored = said(judge, comparisons.swap(rows))
    np.testing.assert_array_equal(mirrored[:, [1, 0, 2]], predictions.probabilities(done))


def test_choices_reach_the_network_and_spare_the_others(place: Path) -> None:
    judge: Any = judges.load(place / "cascade", Runtime(max_length=64, swap="none", devices="cpu"))
    embedded, network = judge.members
    assert (network.runtime.max_length, network.runtime.swap, network.runtime.devices) == (64, "none", "cpu")
    assert judge.predict(real_rows(ROWS)).height == ROWS
    assert not judge.manifest.swap_equivariant, "one order alone is not the same for the twin"
    judge.run_with(Runtime())
    assert network.runtime == Runtime()
    with pytest.raises(UsageError, match="depends on the others"):
        judge.run_with(Runtime(swap="uncertain=0.5"))
    with pytest.raises(UsageError, match="no judge among embedded, tiny has such a choice: --backend"):
        judge.run_with(Runtime(backend="vllm"))
    assert embedded.kind == "features"


def test_predict_treats_it_as_a_judge_with_a_network(place: Path) -> None:
    manifest = bundle.read(place / "cascade")
    assert judges.has_network(manifest)
    assert scale.chunk_rows(manifest, "cpu") == scale.NETWORK_CHUNK_ROWS["cpu"]
    out = place / "p.parquet"
    ask = ["-q", "predict", str(place / "votes.parquet"), "-j", str(place / "cascade"), "--devices", "cpu"]
    assert run([*ask, "--chunk-rows", "7", "-o", str(out)]) == 0
    whole = said(judges.load(place / "cascade"), real_rows(ROWS))
    np.testing.assert_allclose(predictions.probabilities(pl.read_parquet(out)), whole, atol=1e-5)


def test_a_blend_keeps_the_ledger_of_the_member_that_saw_least(place: Path) -> None:
    fit = ["-q", "combine", "blend", "embedded", str(place / "tiny"), "--labels", str(place / "votes.parquet")]
    assert run([*fit, "--rule", "equal", "--folds", "3", "--devices", "cpu", "-o", str(place / "blend")]) == 0
    judge = judges.load(place / "blend")
    done, alone = judge.predict(real_rows(ROWS)), judges.load(place / "tiny").predict(real_rows(ROWS))
    assert done.select(predictions.LEDGER).equals(alone.select(predictions.LEDGER))
    assert done["truncated"].equals(alone["truncated"])
    assert done["swap_gap"].null_count() == ROWS, "the gap of a mean is not the mean of the gaps"


def test_a_judge_whose_rows_depend_on_each_other_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaning = judges.load(place / "tiny", Runtime(swap="uncertain=0.5"))
    leaning.save(place / "leaning")
    fit = ["combine", "cascade", "embedded", str(place / "leaning"), "--labels", str(place / "votes.parquet")]
    assert run([*fit, "--budget", "0.5", "-o", str(place / "never")]) == 2
    assert "in a cascade it would see other rows" in capsys.readouterr().err
