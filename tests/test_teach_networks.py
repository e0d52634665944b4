"""Teachers with a network: shards to the last bit, both orders, and what was trained on, from training to copy."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("torch")

from polars.testing import assert_frame_equal

import finetune_rows
from judges_made import classifier
from teachers_made import loaded_once
from tiebreak import bundle, comparisons, judges, row_hashes, samples
from tiebreak.calibrate import document
from tiebreak.calibration import Calibration
from tiebreak.errors import DataError
from tiebreak.render import template
from tiebreak.teach import labelling
from tiebreak.teach.labelling import Shard, Team, planning
from tiebreak.train.finetune import bundling
from tiebreak.train.finetune.folding import Part

__all__ = ["loaded_once"]

ROWS = 20


@pytest.fixture(scope="module")
def votes() -> pl.DataFrame:
    length = pl.sum_horizontal(pl.col(name).list.join("").str.len_chars() for name in comparisons.TEXTS)
    return samples.votes().sort(length).head(ROWS).with_columns(fold=pl.int_range(ROWS) % 2)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, votes: pl.DataFrame) -> Path:
    """Two fold teachers, alike but for a number in their figures."""
    folder = tmp_path_factory.mktemp("networks")
    for fold in range(2):
        seen = {row_hashes.TRAINED: row_hashes.trained_rows(votes.filter(pl.col("fold") != fold))}
        made = classifier(folder / "base", metrics={"fold": fold, "rows": fold}, files=seen)
        (folder / "teachers").mkdir(exist_ok=True)
        made.save(folder / "teachers" / f"fold-{fold}")
    return folder / "teachers"


def team(folds: Path) -> Team:
    return labelling.read([folds])


def test_labels_are_what_the_judge_says(folds: Path, votes: pl.DataFrame, tmp_path: Path) -> None:
    found = labelling.label(labelling.plan(votes, team(folds), tmp_path / "labels.parquet")).labels
    judge = judges.load(folds / "fold-1")
    said = judge.predict(votes.filter(pl.col("fold") == 1))
    mine = found.filter(pl.col("fold") == 1)
    assert mine["id"].equals(said["id"])
    assert_frame_equal(mine.select(comparisons.SOFT), said.select(comparisons.SOFT), rel_tol=0, abs_tol=1e-6)
    assert_frame_equal(mine.select("swap_gap"), said.select("swap_gap"), rel_tol=0, abs_tol=1e-6)
    assert mine["truncated"].equals(said["truncated"])
    assert mine["truncated"].any()
    assert set(found["rendering"]) == {judge.manifest.settings["fingerprint"]}


def test_shards_are_cut_between_chunks_so_that_no_bit_changes(
    folds: Path, votes: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(planning.NETWORK_ROWS, "cpu", 3)
    output = tmp_path / "labels.parquet"
    whole = labelling.label(labelling.plan(votes, team(folds), output)).labels
    plans = [labelling.plan(votes, team(folds), output, shard=Shard(number, 3)) for number in (3, 1, 2)]
    shards = sorted(
        (labelling.label(plan).labels for plan in plans), key=lambda table: votes["id"].index_of(table["id"][0]) or 0
    )
    assert [table.height for table in shards] == [6, 6, 8]  # every chunk of a teacher has 3 rows of 6
    assert_frame_equal(pl.concat(shards), whole)


def test_swapped_votes_get_swapped_labels(folds: Path, votes: pl.DataFrame, tmp_path: Path) -> None:
    one = labelling.label(labelling.plan(votes, team(folds), tmp_path / "one.parquet")).labels
    two = labelling.label(labelling.plan(comparisons.swap(votes), team(folds), tmp_path / "two.parquet")).labels
    assert (one.select("p_a", "p_b", "p_tie").to_numpy() == two.select("p_b", "p_a", "p_tie").to_numpy()).all()
    assert one["swap_gap"].equals(two["swap_gap"])


def test_another_length_is_another_rendering_and_another_run(folds: Path, votes: pl.DataFrame, tmp_path: Path) -> None:
    output = tmp_path / "labels.parquet"
    labelling.label(labelling.plan(votes, team(folds), output))
    shorter = labelling.plan(votes, team(folds), output, runtime=judges.Runtime(max_length=120))
    outcome = labelling.label(shorter)
    assert outcome.judged == ROWS
    assert set(outcome.labels["rendering"].str.tail(4)) == {"@120"}
    alike = labelling.plan(votes, team(folds), output, runtime=judges.Runtime(max_length=300))
    assert set(labelling.label(alike).labels["rendering"].str.len_chars()) == {64}


def test_one_order_alone_leaves_the_gap_open(folds: Path, votes: pl.DataFrame, tmp_path: Path) -> None:
    runtime = judges.Runtime(swap="none")
    found = labelling.label(labelling.plan(votes, team(folds), tmp_path / "one.parquet", runtime=runtime)).labels
    assert found["swap_gap"].null_count() == ROWS


def test_a_teacher_with_another_template_is_refused(folds: Path, tmp_path: Path) -> None:
    other = classifier(folds.parent / "base", shape=template("plain", max_length=200, chat=False))
    other.save(tmp_path / "fold-2")
    with pytest.raises(DataError, match="read comparisons in different ways"):
        labelling.read([folds, tmp_path / "fold-2"])


def test_what_was_trained_on_goes_wherever_the_judge_goes(folds: Path, tmp_path: Path) -> None:
    trained = row_hashes.read_trained(folds / "fold-0")
    assert trained
    judges.load(folds / "fold-0").save(tmp_path / "copy")
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    calibration = Calibration(method="temperature", weight=identity, bias=(0.0, 0.0, 0.0))
    document.into_bundle(document.Document(calibration=calibration), tmp_path / "copy", tmp_path / "calibrated")
    for place in ("copy", "calibrated"):
        assert row_hashes.read_trained(tmp_path / place) == trained
        assert row_hashes.TRAINED in bundle.read(tmp_path / place).files
    (tmp_path / "copy" / row_hashes.TRAINED).unlink()
    with pytest.raises(DataError, match="missing"):
        labelling.read([tmp_path / "copy"])


def test_a_judge_that_started_from_another_has_seen_what_that_one_saw(folds: Path, votes: pl.DataFrame) -> None:
    part = Part(0, votes.head(5), None)
    alone = finetune_rows.recipe(folds / "base")
    assert bundling.seen(part, alone) == {row_hashes.TRAINED: row_hashes.trained_rows(votes.head(5))}
    later = finetune_rows.recipe(folds / "base", start__bundle=str(folds / "fold-1"))
    both = pl.concat([votes.head(5), votes.filter(pl.col("fold") != 1)])
    assert bundling.seen(part, later) == {row_hashes.TRAINED: row_hashes.trained_rows(both)}
    unknown = finetune_rows.recipe(folds / "base", start__bundle=str(judges.EMBEDDED))
    assert bundling.seen(part, unknown) == {}
