"""Nested cross-validation and the collapse alarm."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak import calibrate, judges, samples
from tiebreak.calibrate import alarm, nested, scores
from tiebreak.calibrate.reliability import reliability
from tiebreak.calibrate.rows import Rows, groups_of
from tiebreak.calibrate.words import describe
from tiebreak.calibration import Calibration
from tiebreak.errors import CollapseError, DataError, UsageError
from tiebreak.predictions import softmax
from tiebreak.scoring import metrics

SHARED = Path(__file__).parents[2] / "shared" / "data"
MIRROR = [1, 0, 2]
FAST = ("temperature", "symmetric", "vector")


def simulate(rows: int, seed: int = 0, *, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 3)) * [1.0, 1.0, 0.6]
    votes = (softmax(logits).cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return softmax(logits * temperature), np.eye(3)[votes]


def votes_of(prior: tuple[float, float, float], rows: int, seed: int) -> np.ndarray:
    return np.eye(3)[np.random.default_rng(seed).choice(3, p=prior, size=rows)]


def test_an_overconfident_judge_is_mended_and_the_study_says_so() -> None:
    p, t = simulate(3000, temperature=2.0)
    study = calibrate.study(p, t)
    before, after = study.results["none"], study.results["temperature"]
    assert study.best == "temperature"
    assert after.change.high < 0
    assert after.ece.value < before.ece.value / 2
    assert after.accuracy == before.accuracy
    assert study.calibration() == study.calibration("temperature")


def test_an_honest_judge_is_best_left_alone() -> None:
    p, t = simulate(3000, seed=1)
    study = calibrate.study(p, t, methods=FAST)
    assert study.best == "none"
    assert study.calibration().apply(p) == pytest.approx(p, abs=1e-15)
    assert describe(study.calibration()) == ["changes nothing"]


def test_the_figures_are_those_of_their_definition() -> None:
    p, t = simulate(500, seed=2, temperature=1.5)
    weights = np.random.default_rng(3).random(500) + 0.1
    result = calibrate.study(p, t, weights=weights, methods=("temperature",)).results["temperature"]
    q = result.probabilities
    loss = -np.log(q[np.arange(500), t.argmax(axis=1)])
    assert result.log_loss.value == pytest.approx(np.average(loss, weights=weights), abs=1e-12)
    assert result.accuracy.value == pytest.approx(np.average(q.argmax(axis=1) == t.argmax(axis=1), weights=weights))
    assert result.brier.value == pytest.approx(np.average(((q - t) ** 2).sum(axis=1), weights=weights))


def test_the_figures_are_those_of_evaluate() -> None:
    p, t = simulate(700, seed=4, temperature=1.5)
    weights = np.random.default_rng(5).random(700) + 0.1
    measured = scores.Resampling(np.arange(700), weights, 0).measure(p, t)
    assert measured.log_loss[0] == pytest.approx(metrics.log_loss(p, t, weights), abs=1e-12)
    assert measured.brier[0] == pytest.approx(metrics.brier(p, t, weights), abs=1e-12)
    assert measured.accuracy[0] == pytest.approx(metrics.accuracy(p, t, weights), abs=1e-12)
    assert measured.ece[0] == pytest.approx(metrics.classwise_ece(p, t, weights), abs=1e-12)


def test_no_row_is_judged_by_a_map_that_saw_its_group() -> None:
    p, t = simulate(200, seed=6)
    groups = np.arange(200) // 4
    out_of_fold = calibrate.study(p, t, groups, methods=("vector",)).results["vector"].probabilities
    rows = Rows.of(p, t, groups)
    folds = nested.fold_of(rows, 5, 0)
    for fold in range(5):
        held_out = folds == fold
        assert not set(groups[held_out]) & set(groups[~held_out])
        fitted = calibrate.fit(p[~held_out], t[~held_out], method="vector")
        np.testing.assert_array_equal(out_of_fold[held_out], fitted.apply(p[held_out]))


@given(st.integers(0, 10_000), st.integers(2, 6), st.lists(st.integers(1, 9), min_size=8, max_size=40))
@settings(deadline=None, max_examples=40)
def test_folds_keep_groups_whole_and_even(seed: int, folds: int, sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    p, t = simulate(len(groups), seed=seed)
    assigned = nested.fold_of(Rows.of(p, t, groups), folds, seed)
    assert all(len(np.unique(assigned[groups == g])) == 1 for g in range(len(sizes)))
    counts = np.bincount(assigned, minlength=folds)
    assert counts.max() - counts.min() <= max(sizes)


def test_folds_share_the_ties_evenly() -> None:
    p, t = simulate(1000, seed=7)
    folds = nested.fold_of(Rows.of(p, t), 5, 0)
    ties = [t[folds == fold, 2].sum() for fold in range(5)]
    assert max(ties) - min(ties) <= 1


def test_the_same_seed_gives_the_same_study() -> None:
    p, t = simulate(300, seed=8)
    first, again = (calibrate.study(p, t, seed=3, repeats=2) for _ in range(2))
    assert first.results["dirichlet"].log_loss == again.results["dirichlet"].log_loss
    assert first.results["dirichlet"].calibration == again.results["dirichlet"].calibration


def test_intervals_are_wider_when_rows_come_in_groups() -> None:
    p, t = simulate(200, seed=9, temperature=1.5)
    many, labels = np.repeat(p, 10, axis=0), np.repeat(t, 10, axis=0)
    by_row = calibrate.study(many, labels, methods=("temperature",)).results["none"].log_loss
    by_group = calibrate.study(many, labels, np.repeat(np.arange(200), 10), methods=("temperature",))
    wide = by_group.results["none"].log_loss
    assert (wide.high - wide.low) / (by_row.high - by_row.low) == pytest.approx(np.sqrt(10), rel=0.2)


# The collapse alarm ----------------------------------------------------------------------------------------------


def refused(p: np.ndarray, t: np.ndarray, method: str = "symmetric") -> str:
    study = calibrate.study(p, t, methods=(method,))
    with pytest.raises(CollapseError) as caught:
        study.calibration(method)
    assert caught.value.exit_code == 6
    assert study.calibration(method, force=True).method == method
    return str(caught.value)


@pytest.mark.parametrize("method", FAST)
def test_a_constant_teacher_is_refused(method: str) -> None:
    p = np.tile([0.4, 0.35, 0.25], (1000, 1))
    message = refused(p, votes_of((0.35, 0.35, 0.3), 1000, 0), method)
    assert "the same for every row" in message
    assert "class prior" in message


@pytest.mark.parametrize("seed", range(3))
def test_a_noise_teacher_is_refused(seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet([1, 1, 1], size=2000)
    message = refused(p, votes_of((0.35, 0.35, 0.3), 2000, seed + 100))
    assert "not better than the class prior's" in message
    assert "hardly more than a constant" in message


def test_shuffled_votes_are_refused() -> None:
    p, t = simulate(2000, seed=12)
    assert "class prior" in refused(p, np.random.default_rng(0).permutation(t))


@pytest.mark.parametrize("method", FAST)
def test_an_inverted_teacher_is_refused_though_its_calibration_has_a_good_loss(method: str) -> None:
    p, t = simulate(2000, seed=13)
    message = refused(softmax(-np.log(p)), t, method)
    assert "changes sign" in message
    assert "class prior" not in message


def test_a_made_up_tie_column_is_refused() -> None:
    p, t = simulate(2000, seed=14)
    p[:, 2] = 0.3
    p[:, :2] *= (0.7 / p[:, :2].sum(axis=1))[:, None]
    message = refused(p, t)
    assert "p_tie is 0.3 in every row" in message


def test_a_constant_tie_is_right_where_nobody_votes_tie() -> None:
    p, t = simulate(2000, seed=15)
    decided = t[:, 2] == 0
    two = p[decided] * [1, 1, 0]
    study = calibrate.study(two / two.sum(axis=1, keepdims=True), t[decided], methods=("temperature", "symmetric"))
    assert study.calibration("temperature").weight[0][0] == pytest.approx(1, abs=0.15)
    assert "nobody voted tie" in study.skipped["symmetric"]


def test_a_length_driven_teacher_with_a_made_up_tie_is_refused() -> None:
    """Summed log-likelihoods taken for preferences: hundreds of nats apart, driven by length, blind to the votes."""
    rng = np.random.default_rng(16)
    likelihood = -rng.lognormal(5, 0.7, size=(3000, 2))
    logits = np.column_stack([likelihood, likelihood.mean(axis=1)])
    message = refused(softmax(logits), votes_of((0.349, 0.342, 0.309), 3000, 17), "vector")
    assert "hardly more than a constant" in message


COLLAPSED = {
    "method": "vector",
    "weight": [[-5.9e-5, 0, 0], [0, -5.7e-5, 0], [0, 0, -4.7e-5]],
    "bias": [-1.1e-4, -1.3e-4, 2.4e-4],
}


def test_a_real_collapsed_calibrator_is_refused_when_loaded(tmp_path: Path) -> None:
    """Numbers that a published pipeline saved and used: a vector scaling that says 1/3 whatever the teacher says."""
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(COLLAPSED))
    with pytest.raises(CollapseError, match="scales vanish") as caught:
        calibrate.load(bare)
    assert "changes sign" in str(caught.value)
    assert calibrate.load(bare, force=True).bias == (-1.1e-4, -1.3e-4, 2.4e-4)
    p, _ = simulate(100)
    assert np.ptp(Calibration.model_validate(COLLAPSED).apply(p), axis=0).max() < 1e-3


def test_scales_do_not_depend_on_how_the_map_is_written() -> None:
    rng = np.random.default_rng(18)
    weight, bias = rng.normal(size=(3, 3)), rng.normal(size=3)
    same = weight + rng.normal(size=3)
    one, other = (
        Calibration(method="dirichlet", weight=w.tolist(), bias=bias.tolist())  # type: ignore[arg-type]
        for w in (weight, same)
    )
    p, _ = simulate(50)
    np.testing.assert_allclose(one.apply(p), other.apply(p), atol=1e-12)
    assert alarm.scales(one) == pytest.approx(alarm.scales(other))


def test_a_weak_but_real_judge_passes() -> None:
    rng = np.random.default_rng(19)
    logits = 0.3 * rng.normal(size=(4000, 3))
    votes = (softmax(logits).cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    calibrate.study(softmax(logits * 3), np.eye(3)[votes], methods=("symmetric",)).calibration("symmetric")


def test_information_is_the_expected_gain_over_the_mean() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]])
    mean = p.mean(axis=0)
    assert alarm.information(p, np.ones(2)) == pytest.approx((p * np.log(p / mean)).sum() / 2)
    assert alarm.information(np.tile(p[0], (5, 1)), np.ones(5)) == pytest.approx(0, abs=1e-15)


# Files, use, words -----------------------------------------------------------------------------------------------


def test_a_saved_calibration_comes_back_and_a_forced_one_is_remembered(tmp_path: Path) -> None:
    p, t = simulate(400, seed=20, temperature=1.5)
    study = calibrate.study(p, t, methods=FAST)
    calibrate.save(calibrate.document.make(study, "symmetric"), tmp_path / "good.json")
    assert calibrate.load(tmp_path / "good.json") == study.calibration("symmetric")

    inverted = calibrate.study(softmax(-np.log(p)), t, methods=FAST)
    forced = calibrate.document.make(inverted, "symmetric", force=True)
    assert any("changes sign" in fault for fault in forced.forced)
    calibrate.save(forced, tmp_path / "forced.json")
    assert calibrate.load(tmp_path / "forced.json") == forced.calibration


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "{", '{"calibration": {"method": "symmetric"}}', '{"weight": NaN}']
)
def test_a_broken_calibration_file_is_a_data_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"c\.json"):
        calibrate.load(path)


@given(st.floats(0.3, 3), st.floats(0.3, 3), st.floats(-2, 2), st.integers(0, 100))
@settings(deadline=None, max_examples=50)
def test_a_symmetric_calibration_can_be_undone(w_ab: float, w_tie: float, bias: float, seed: int) -> None:
    fitted = Calibration(
        method="symmetric",
        weight=((w_ab, 0, 0), (0, w_ab, 0), (0, 0, w_tie)),
        bias=(-bias / 3, -bias / 3, 2 * bias / 3),
    )
    p, _ = simulate(50, seed=seed)
    np.testing.assert_allclose(calibrate.undo(fitted, fitted.apply(p)), p, atol=1e-9)


def test_a_map_that_differs_for_a_and_b_cannot_be_undone() -> None:
    fitted = Calibration(method="vector", weight=((1, 0, 0), (0, 1.1, 0), (0, 0, 1)), bias=(0, 0, 0))
    with pytest.raises(DataError, match="cannot be undone"):
        calibrate.undo(fitted, np.full((1, 3), 1 / 3))


def test_applying_keeps_an_equivariant_judge_so() -> None:
    p, _ = simulate(50)
    fitted = Calibration(method="vector", weight=((1, 0, 0), (0, 1.2, 0), (0, 0, 0.9)), bias=(0.1, 0, 0))
    ids = pl.Series("id", [str(i) for i in range(50)])

    def table(q: np.ndarray, gap: float | None) -> pl.DataFrame:
        columns = {"id": ids, "p_a": q[:, 0], "p_b": q[:, 1], "p_tie": q[:, 2]}
        return pl.DataFrame(columns).with_columns(pl.lit(gap, dtype=pl.Float64).alias("swap_gap"))

    def applied(q: np.ndarray, gap: float | None) -> np.ndarray:
        return calibrate.apply_table(fitted, table(q, gap)).select("p_a", "p_b", "p_tie").to_numpy()

    assert (applied(p[:, MIRROR], 0.0) == applied(p, 0.0)[:, MIRROR]).all()
    assert (applied(p[:, MIRROR], None) != applied(p, None)[:, MIRROR]).any()
    assert calibrate.apply_table(fitted, table(p, 0.2))["swap_gap"].null_count() == 50


def test_words() -> None:
    def temperature(value: float) -> Calibration:
        return calibrate.FAMILIES["temperature"].calibration(np.array([1 / value]))

    assert describe(temperature(1.07)) == ["temperature 1.07: over-confident, log-odds were 7 % too large"]
    assert describe(temperature(0.8)) == ["temperature 0.80: under-confident, log-odds were 20 % too small"]
    tied = calibrate.FAMILIES["symmetric"].calibration(np.array([1.0, 1.0, 0.12]))
    assert describe(tied) == ["tie bias +0.12: where the judge is undecided, a tie gets 1.13 x an answer"]


def test_reliability_bins_hold_every_row_once_for_each_class() -> None:
    p, t = simulate(503, seed=21)
    study = calibrate.study(p, t, methods=("temperature",))
    cells = reliability(study, "temperature")
    for label, k in (("a", 0), ("b", 1), ("tie", 2)):
        mine = [cell for cell in cells if cell.label == label]
        assert sum(cell.rows for cell in mine) == 503
        assert sum(cell.rows * cell.seen for cell in mine) == pytest.approx(t[:, k].sum())
        assert [cell.before for cell in mine] == sorted(cell.before for cell in mine)


def test_groups_come_from_the_group_then_the_prompt_then_the_id() -> None:
    votes = pl.DataFrame(
        {
            "id": ["1", "2", "3", "4", "4"],
            "group": ["g", None, None, "g", None],
            "prompt": [["x"], ["Hello  World"], ["hello world "], ["y"], [None]],
        },
        schema={"id": pl.String, "group": pl.String, "prompt": pl.List(pl.String)},
    )
    groups = groups_of(votes).to_list()
    assert groups[0] == groups[3]
    assert groups[1] == groups[2] != groups[0]
    assert len(set(groups)) == 3
    without_text = groups_of(votes.drop("prompt")).to_list()
    assert without_text[1] != without_text[2]


def test_bad_arguments() -> None:
    p, t = simulate(20)
    with pytest.raises(DataError, match="folds"):
        calibrate.study(p[:3], t[:3])
    with pytest.raises(UsageError, match="isotonic"):
        calibrate.study(p, t, methods=("isotonic",))
    study = calibrate.study(p, t)
    assert "dirichlet" in study.skipped
    with pytest.raises(DataError, match="too few"):
        study.calibration("dirichlet")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(("model", "before", "gains"), [("m1", 0.9488, False), ("m2", 0.9389, True)])
def test_two_fine_tuned_llms(model: str, before: float, gains: bool) -> None:
    frame = pl.read_parquet(SHARED / "kaggle_lmsys_llm_predictions.parquet")
    t = np.eye(3)[frame["label"].replace_strict({"a": 0, "b": 1, "tie": 2}).to_numpy()]
    p = frame.select(f"{model}_a", f"{model}_b", f"{model}_tie").to_numpy()
    study = calibrate.study(p / p.sum(axis=1, keepdims=True), t, methods=("temperature", "symmetric"))
    assert study.results["none"].log_loss.value == pytest.approx(before, abs=5e-5)
    change = study.results["symmetric"].change
    assert (change.high < -0.01) is gains
    assert change.value < 0.001
    study.calibration("symmetric")


def test_a_calibrated_judge_is_asked_again_where_there_are_texts(tmp_path: Path) -> None:
    """Its map (a negative tie weight) has no inverse, so nothing but asking again can give the scores before it."""
    votes, judge = samples.votes(), judges.load()
    raw = judge.score(votes).probabilities
    judge.manifest = judge.manifest.model_copy(
        update={
            "calibration": Calibration(method="symmetric", weight=((2, 0, 0), (0, 2, 0), (0, 0, -0.1)), bias=(0, 0, 0))
        }
    )
    judge.save(tmp_path / "judge")
    calibrated = judge.predict(votes)
    before, how = calibrate.uncalibrated(calibrated, votes, tmp_path / "judge")
    np.testing.assert_array_equal(before.select("p_a", "p_b", "p_tie").to_numpy(), raw)
    assert "before calibration" in how
    with pytest.raises(DataError, match="cannot be undone"):
        calibrate.uncalibrated(calibrated, votes.select("id", "label"), tmp_path / "judge")
    foreign = calibrated.with_columns(p_a=pl.col("p_b"), p_b=pl.col("p_a"))
    assert "not the bundle's own" in calibrate.uncalibrated(foreign, votes, tmp_path / "judge")[1]
