"""Several teachers as one: by hand, without a row's own vote, with its provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import SHARED
from soft_rows import blurred, labels, votes
from tiebreak import calibrate, cli, comparisons, pooling, soft_labels
from tiebreak.calibrate.families import FAMILIES
from tiebreak.comparisons import SOFT
from tiebreak.errors import CollapseError, DataError, UsageError
from tiebreak.predictions import softmax
from tiebreak.teach import combining
from tiebreak.teach.combining import Combination
from tiebreak.teach.combining.crossing import FOLDS, _folds, cross_fit

ROWS = 900
VOTES, TRUTH = votes(ROWS, seed=4)
SHARP, DULL = blurred(TRUTH, 0.4, sharpness=1.5), blurred(TRUTH, 0.9, sharpness=0.5, seed=5)
LLMS = SHARED / "kaggle_lmsys_llm_predictions.parquet"


def two(**about: object) -> dict[str, pl.DataFrame]:
    return {"sharp": labels(VOTES, SHARP, teacher="sharp", **about), "dull": labels(VOTES, DULL, teacher="dull")}


def said(made: Combination) -> np.ndarray:
    return made.labels.select(SOFT).to_numpy()


def test_plain_pools_are_the_pools() -> None:
    for method, space in (("probabilities", "probabilities"), ("logits", "logits")):
        made = combining.combine(two(), VOTES, calibration="none", method=method)
        expected = pooling.pool(np.stack([SHARP, DULL]), space=space)  # type: ignore[arg-type]
        assert (said(made) == expected).all()
        assert made.labels["id"].equals(VOTES["id"])


def test_each_row_is_calibrated_by_the_votes_of_other_groups() -> None:
    """Against a loop written here: one calibration a fold of whole groups, fitted on the rest."""
    table = VOTES.with_columns(pl.Series("group", [str(k // 3) for k in range(ROWS)]))
    opinions = combining.gather({"sharp": two()["sharp"]}, table)
    fold = _folds(opinions, opinions.fitting, 0)
    assert sorted(set(fold.tolist())) == list(range(FOLDS))
    assert all((fold[k : k + 3] == fold[k]).all() for k in range(0, ROWS, 3))
    assert np.ptp(np.bincount(fold)) <= 3
    expected, targets = np.empty_like(SHARP), comparisons.targets(table)
    for number in range(FOLDS):
        inside = fold == number
        expected[inside] = calibrate.fit(SHARP[~inside], targets[~inside], method="symmetric").apply(SHARP[inside])
    made = combining.combine({"sharp": two()["sharp"]}, table)
    assert said(made) == pytest.approx(expected, abs=1e-9)
    rows = np.argmax(targets, axis=1)
    assert made.measures["sharp, calibrated"].log_loss.value == pytest.approx(
        -np.log(expected[np.arange(ROWS), rows]).mean(), abs=1e-9
    )
    assert made.measures["sharp"].log_loss.value > made.measures["sharp, calibrated"].log_loss.value


@pytest.mark.parametrize("method", combining.METHODS)
@pytest.mark.parametrize("row", [17, 400])
def test_turning_a_vote_changes_other_labels_and_not_its_own(method: str, row: int) -> None:
    turned = {"a": "b", "b": "tie", "tie": "a"}
    other = VOTES.with_columns(
        pl.when(pl.int_range(ROWS) == row)
        .then(pl.col("label").cast(pl.String).replace_strict(turned))
        .otherwise(pl.col("label").cast(pl.String))
        .cast(comparisons.LABEL)
        .alias("label")
    )
    one, two_ = (said(combining.combine(two(), table, method=method)) for table in (VOTES, other))
    changed = (one != two_).any(axis=1)
    assert not changed[row]
    # The fold of the row is left alone, every other row heard of the change.
    opinions = combining.gather(two(), VOTES)
    fold = _folds(opinions, opinions.fitting, 0)
    assert (changed == (fold != fold[row])).all()


def test_fitted_weights_beat_equal_ones_where_one_teacher_is_noise() -> None:
    noise = softmax(np.random.default_rng(0).normal(size=(ROWS, 3)))
    three = {**two(), "noise": labels(VOTES, noise, teacher="noise")}
    made = combining.combine(three, VOTES, calibration="none", method="weights")
    assert made.weights["noise"] < 0.1
    assert sum(made.weights.values()) == pytest.approx(1)
    losses = {name: measure.log_loss.value for name, measure in made.measures.items()}
    assert losses["fitted weights of logits"] < losses["mean of logits"]
    assert made.chosen == "fitted weights of logits"


def test_rows_without_a_vote_get_what_all_votes_taught() -> None:
    half = VOTES.with_columns(pl.when(pl.int_range(ROWS) < 600).then("label").alias("label"))
    made = combining.combine({"sharp": two()["sharp"]}, half)
    targets = comparisons.targets(half)
    whole = calibrate.fit(SHARP[:600], targets[:600], method="symmetric")
    assert said(made)[600:] == pytest.approx(whole.apply(SHARP[600:]), abs=1e-9)
    assert made.fitted_on == 600
    assert np.abs(said(made)[:600] - whole.apply(SHARP[:600])).max() > 1e-6


def test_nothing_is_fitted_on_rows_that_a_teacher_was_trained_on() -> None:
    memory = SHARP.copy()
    inside = np.arange(ROWS) < 300
    memory[inside] = softmax(8 * comparisons.targets(VOTES)[inside])
    table = labels(VOTES, memory, teacher="sharp", in_sample=pl.Series(inside))
    made = combining.combine({"sharp": table}, VOTES)
    outside = calibrate.fit(SHARP[~inside], comparisons.targets(VOTES)[~inside], method="symmetric")
    assert said(made)[inside] == pytest.approx(outside.apply(memory[inside]), abs=1e-9)
    assert (made.fitted_on, made.remembered) == (600, 300)
    assert made.labels["in_sample"].sum() == 300


def test_where_a_label_comes_from_is_kept() -> None:
    fold = pl.Series(np.arange(ROWS) % 2)
    other_fold = pl.Series(np.where(np.arange(ROWS) < 10, 1 - np.arange(ROWS) % 2, np.arange(ROWS) % 2))
    unknown = pl.Series([None] * 5 + [True] * 5 + [False] * (ROWS - 10), dtype=pl.Boolean)
    tables = {
        "x": labels(VOTES, SHARP, teacher="x", revision="1" * 16, fold=fold, truncated=pl.Series(np.arange(ROWS) == 3)),
        "y": labels(VOTES, DULL, teacher="y", revision="2" * 16, fold=other_fold, in_sample=unknown, swap_gap=0.1),
    }
    table = combining.combine(tables, VOTES).labels
    assert table["teacher"].unique().to_list() == ["x+y"]
    assert table["revision"].unique().to_list() == ["1" * 16 + "+" + "2" * 16]
    assert table["rendering"].unique().to_list() == ["r" * 16]
    assert table["fold"].null_count() == 10
    assert table["fold"][10:].equals(fold[10:].cast(pl.Int64).alias("fold"))
    assert table["in_sample"].to_list() == unknown.to_list()
    assert table["truncated"].arg_true().to_list() == [3]
    assert table["swap_gap"].null_count() == ROWS
    exact = combining.combine(two(), VOTES, name="both").labels
    assert exact["swap_gap"].unique().to_list() == [0.0]
    assert exact["teacher"][0] == "both"
    renderless = {
        "x": labels(VOTES, SHARP, teacher="x", rendering=None),
        "y": labels(VOTES, DULL, teacher="y", rendering="t"),
    }
    assert combining.combine(renderless, VOTES).labels["rendering"].unique().to_list() == ["t"]


@pytest.mark.parametrize("calibration", ["none", "symmetric", "temperature", "vector"])
def test_swapped_opinions_give_swapped_labels_bit_by_bit(calibration: str) -> None:
    """The recipe is fitted once; applied to swapped opinions of an exact teacher it gives the mirror."""
    opinions = combining.gather(two(), VOTES)
    recipe = cross_fit(opinions, calibration, force=False, seed=0).recipe
    given, mirrored = recipe.calibrated(opinions.p), recipe.calibrated(opinions.p[:, :, [1, 0, 2]])
    assert (mirrored == given[:, :, [1, 0, 2]]).all()
    for pool in (pooling.linear, pooling.logarithmic):
        assert (pool(mirrored, recipe.weights) == pool(given, recipe.weights)[:, [1, 0, 2]]).all()


def test_the_collapse_alarm_is_heard_and_can_be_overruled() -> None:
    noise = labels(VOTES, softmax(np.random.default_rng(0).normal(size=(ROWS, 3))), teacher="noise")
    with pytest.raises(CollapseError, match="noise: "):
        combining.combine({**two(), "noise": noise}, VOTES)
    made = combining.combine({**two(), "noise": noise}, VOTES, force=True)
    assert made.faults
    assert all(fault.startswith("noise: ") for fault in made.faults)


def test_without_votes_there_is_nothing_to_fit() -> None:
    silent = VOTES.with_columns(pl.lit(None).cast(comparisons.LABEL).alias("label"))
    with pytest.raises(DataError, match="--calibrate none"):
        combining.combine(two(), silent)
    made = combining.combine(two(), silent, calibration="none", method="weights")
    assert made.measures == {}
    assert said(made) == pytest.approx(pooling.logarithmic(np.stack([SHARP, DULL])), abs=1e-15)


def test_rows_that_one_teacher_left_out_are_counted_and_other_texts_refused() -> None:
    tables = {**two(), "dull": two()["dull"].head(700)}
    made = combining.combine(tables, VOTES)
    assert (made.left_out, made.labels.height) == (200, 700)
    with pytest.raises(DataError, match="texts of 900 comparisons"):
        combining.combine(two(), comparisons.swap(VOTES))
    with pytest.raises(DataError, match="no row of the votes"):
        combining.combine(two(), votes(20, seed=8)[0].with_columns(pl.lit("other").alias("id") + pl.col("id")))
    with pytest.raises(UsageError, match="--calibrate 'magic'"):
        combining.combine(two(), VOTES, calibration="magic")
    with pytest.raises(UsageError, match="--method 'vote'"):
        combining.combine(two(), VOTES, method="vote")


# The command.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    VOTES.write_parquet("votes.parquet")
    for name, table in two().items():
        table.write_parquet(f"{name}.parquet")
        assert cli.run(["--quiet", "teach", "audit", f"{name}.parquet", "--votes", "votes.parquet", "--json"]) == 0
    return tmp_path


def test_the_command_writes_audited_labels_and_says_what_they_are_worth(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    command = ["teach", "combine", "sharp.parquet", "dull.parquet", "--votes", "votes.parquet", "-o", "both.parquet"]
    assert cli.run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    written = soft_labels.read([place / "both.parquet"])
    assert (said_by(written) == said(combining.combine(two(), VOTES))).all()
    audit = soft_labels.read_audit(place / "both.parquet")
    assert audit.teacher == "sharp+dull"
    assert audit.figures["combined"]["measures"] == document["measures"]  # type: ignore[index, call-overload]
    assert set(document["measures"]) == {
        "class shares", "sharp", "dull", "sharp, calibrated", "dull, calibrated", "mean of probabilities",
        "mean of logits", "fitted weights of logits",
    }  # fmt: skip
    assert document["measures"]["mean of probabilities"]["log_loss"][0] == pytest.approx(
        audit.figures["log_loss"][0]  # type: ignore[index]
    )
    assert cli.run([*command, "--dry-run"]) == 0
    assert "mean of probabilities *" in capsys.readouterr().out


def said_by(table: pl.DataFrame) -> np.ndarray:
    return table.select(SOFT).to_numpy()


def test_a_teacher_that_was_not_let_pass_is_not_combined(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels(VOTES, SHARP[:, [1, 0, 2]], teacher="turned").write_parquet("turned.parquet")
    command = ["teach", "combine", "sharp.parquet", "turned.parquet", "--votes", "votes.parquet", "-o", "both.parquet"]
    assert cli.run(command) == 3
    assert "was not audited" in capsys.readouterr().err
    assert cli.run(["teach", "audit", "turned.parquet", "--votes", "votes.parquet"]) == 6
    assert cli.run(command) == 3
    assert not (place / "both.parquet").exists()
    assert cli.run([*command, "--force", "--calibrate", "none"]) == 0
    assert "overruled" in capsys.readouterr().err
    audit = soft_labels.read_audit(place / "both.parquet")
    assert any("turned" in str(fault) for fault in audit.figures["overruled"])  # type: ignore[union-attr]
    one = ["teach", "combine", "sharp.parquet", "--votes", "votes.parquet"]
    assert cli.run([*one, "sharp.parquet", "-o", "x.parquet"]) == 3
    assert cli.run([*one, "-o", "x.csv"]) == 2


@pytest.mark.skipif(not LLMS.exists(), reason="the folder of real votes is not here")
def test_two_real_judges_together_are_better_than_each() -> None:
    table = pl.read_parquet(LLMS).with_columns(pl.col("id").cast(pl.String))
    texts = [pl.concat_list(pl.col("id") + name).alias(name) for name in comparisons.TEXTS]
    real = comparisons.validate(table.select("id", "label", *texts))
    tables = {}
    for name in ("m1", "m2"):
        p = table.select(f"{name}_{side}" for side in ("a", "b", "tie")).to_numpy()
        tables[name] = labels(real, p / p.sum(axis=1, keepdims=True), teacher=name, in_sample=None)
    made = combining.combine(tables, real, method="weights")
    measures = made.measures
    assert measures["m1"].log_loss.value == pytest.approx(0.9488, abs=5e-5)
    assert measures["m2, calibrated"].log_loss.value == pytest.approx(0.9211, abs=3e-4)
    assert measures["fitted weights of logits"].log_loss.value == pytest.approx(0.9117, abs=3e-4)
    for name in ("mean of probabilities", "mean of logits", "fitted weights of logits"):
        assert measures[name].log_loss.value < measures["m2, calibrated"].log_loss.value - 0.005
    assert made.weights["m2"] == pytest.approx(0.659, abs=0.005)


def test_every_family_is_known() -> None:
    assert set(FAMILIES) == set(calibrate.METHODS)
