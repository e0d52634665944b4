"""Everything at once: that figures are what they say, on whole files and on their parts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiebreak as tb
from evaluation_rows import judged, votes
from tiebreak import comparisons, predictions
from tiebreak.errors import DataError, UsageError
from tiebreak.evaluation import baselines, languages, sample, summary
from tiebreak.scoring import metrics

SHARED = Path(__file__).parents[2] / "shared" / "data"
FEW = 50
FIGURES = (
    "log_loss", "accuracy", "decisive_accuracy", "decisive_log_loss", "macro_f1", "brier", "ece", "classwise_ece"
)  # fmt: skip
SEEDS = st.integers(0, 10_000)


def arrays(table: pl.DataFrame, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return predictions.probabilities(frame), comparisons.targets(table)


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.booleans(), st.booleans())
def test_figures_are_those_of_the_plain_functions(seed: int, weighted: bool, soft: bool) -> None:
    table = votes(60, seed=seed)
    rng = np.random.default_rng(seed)
    if weighted:
        table = table.with_columns(weight=pl.Series(rng.uniform(0.1, 3, 60)))
    if soft:
        table = table.with_columns(
            pl.Series(n, c) for n, c in zip(comparisons.SOFT, rng.dirichlet([1] * 3, 60).T, strict=True)
        )
    frame = judged(table, seed=seed)
    p, t = arrays(table, frame)
    w = table["weight"].fill_null(1).to_numpy()
    found = tb.evaluate(frame, table, resamples=FEW)
    for name in (
        "log_loss",
        "accuracy",
        "decisive_accuracy",
        "decisive_log_loss",
        "macro_f1",
        "brier",
        "ece",
        "classwise_ece",
    ):
        assert found.metrics[name].value == pytest.approx(getattr(metrics, name)(p, t, w), nan_ok=True), name
    recall, precision, f1 = metrics.per_class(metrics.confusion(p, t, w))
    for k, label in enumerate(comparisons.LABELS):
        assert found.metrics[f"recall_{label}"].value == pytest.approx(recall[k], nan_ok=True)
        assert found.metrics[f"precision_{label}"].value == pytest.approx(precision[k], nan_ok=True)
        assert found.metrics[f"f1_{label}"].value == pytest.approx(f1[k], nan_ok=True)
        assert found.metrics[f"predicted_share_{label}"].value == pytest.approx(np.average(p[:, k], weights=w))
        assert found.metrics[f"actual_share_{label}"].value == pytest.approx(np.average(t[:, k], weights=w))
    for estimate in found.metrics.values():
        if not math.isnan(estimate.low):
            assert estimate.low <= estimate.value + 0.1
            assert estimate.high >= estimate.value - 0.1


def test_rows_without_label_or_weight_are_counted_and_left_out() -> None:
    table = votes(50)
    gone = pl.int_range(pl.len()) % 5 == 0
    table = table.with_columns(
        label=pl.when(gone).then(None).otherwise(pl.col("label")),
        weight=pl.when(pl.int_range(pl.len()) == 1).then(0.0).otherwise(None),
    )
    frame = judged(votes(50))
    found = tb.evaluate(frame, table, resamples=FEW)
    assert (found.counts.votes, found.counts.scored, found.counts.unlabelled, found.counts.weightless) == (
        50,
        39,
        10,
        1,
    )
    keep = np.array([k for k in range(50) if k % 5 and k != 1])
    same = tb.evaluate(frame[keep], table[keep], resamples=FEW)
    assert found.metrics == same.metrics
    assert any("10 of 50 votes have no label" in text for text in summary.warnings(found))


def test_rows_meet_by_id_and_a_label_column_of_predictions_is_not_believed() -> None:
    table = votes(80)
    frame = judged(table)
    cheat = frame.drop("label").with_columns(label=table["label"]).sample(fraction=1, shuffle=True, seed=3)
    assert tb.evaluate(cheat, table, resamples=FEW).metrics == tb.evaluate(frame, table, resamples=FEW).metrics


@settings(deadline=None, max_examples=10)
@given(SEEDS)
def test_swapping_all_sides_mirrors_every_figure(seed: int) -> None:
    table = votes(60, seed=seed)
    frame = judged(table, seed=seed)
    mirrored = predictions.build(table["id"], predictions.probabilities(frame)[:, [1, 0, 2]])
    here, there = (
        tb.evaluate(frame, table, resamples=FEW),
        tb.evaluate(mirrored, comparisons.swap(table), resamples=FEW),
    )
    for name, estimate in here.metrics.items():
        other = {"_a": "_b", "_b": "_a"}.get(name[-2:], name[-2:])
        assert there.metrics[name[:-2] + other].value == pytest.approx(estimate.value, nan_ok=True), name
    for name, baseline in here.baselines.items():
        for key, estimate in baseline.metrics.items():
            assert there.baselines[name].metrics[key].value == pytest.approx(estimate.value), (name, key)
    for name in (
        "longer_share_actual",
        "longer_share_predicted",
        "length_correlation_predicted",
        "length_slope_actual",
    ):
        pair = (each.audits["length"].figures[name].value for each in (here, there))
        assert next(pair) == pytest.approx(next(pair)), name


def test_groups_are_the_column_else_the_normalised_prompt_else_the_row() -> None:
    prompts = ["Hi  there", "hi there", "ＨＩ there ", "other", "", ""]
    table = votes(6).with_columns(prompt=pl.Series([[text] for text in prompts]))
    for name in ("response_a", "response_b"):
        table = table.with_columns(pl.col(name).list.slice(0, 1))
    assert sample.group_codes(table).tolist()[:3] == [sample.group_codes(table)[0]] * 3
    assert len(set(sample.group_codes(table))) == 4
    named = table.with_columns(group=pl.Series(["g", None, None, "g", "g", None]))
    codes = sample.group_codes(named)
    assert codes[0] == codes[3] == codes[4] != codes[1] == codes[2] != codes[5]


def test_a_slice_is_an_evaluation_of_its_rows() -> None:
    table = votes(200)
    frame, other = judged(table), judged(table, seed=1)
    found = tb.evaluate(frame, table, against=other, resamples=FEW)
    by_name = {(part.dimension, part.name): part for part in found.slices}
    turns = table["prompt"].list.len().to_numpy()
    rows = np.flatnonzero(turns == 2)
    alone = tb.evaluate(frame[rows], table[rows], against=other[rows], resamples=FEW)
    part = by_name["turns", "2 turns"]
    assert part.rows == len(rows)
    assert part.log_loss.value == pytest.approx(alone.metrics["log_loss"].value)
    assert part.accuracy.value == pytest.approx(alone.metrics["accuracy"].value)
    assert part.calibration_gap.value == pytest.approx(alone.metrics["confidence_gap"].value)
    assert part.prior_log_loss == pytest.approx(alone.baselines["prior"].metrics["log_loss"].value)
    assert part.difference is not None
    assert alone.comparison is not None
    assert part.difference.value == pytest.approx(alone.comparison.difference["log_loss"].value)
    for dimension in {part.dimension for part in found.slices}:
        assert sum(part.rows for part in found.slices if part.dimension == dimension) == 200, dimension


def test_content_slices_find_code_and_identical_and_empty_answers() -> None:
    table = votes(4).with_columns(
        prompt=pl.Series([["a"]] * 4),
        response_a=pl.Series([["same"], ["  "], ["```py\nx = 1\n```"], ["plain words; and more"]]),
        response_b=pl.Series([["same"], ["text"], ["no"], ["other"]]),
    )
    found = tb.evaluate(judged(table), table, resamples=FEW)
    parts = {(part.dimension, part.name): part.rows for part in found.slices}
    assert parts["answers", "identical answers"] == parts["answers", "an empty answer"] == 1
    assert parts["answers", "two different answers"] == 2
    assert (parts["code", "with code"], parts["code", "without code"]) == (1, 3)
    assert all(part.small for part in found.slices)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", "English"),
        ("¿Cuál es la capital de Francia y por qué?", "other Latin script"),
        ("Was ist die Hauptstadt von Frankreich?", "other Latin script"),
        ("Какой город столица Франции?", "Cyrillic"),
        ("法国的首都是哪里？", "Chinese"),
        ("フランスの首都はどこですか", "Japanese"),
        ("프랑스의 수도는 어디입니까", "Korean"),
        ("ما هي عاصمة فرنسا", "Arabic"),
        ("12345 !!", None),
        ("", None),
    ],
)
def test_language(text: str, expected: str | None) -> None:
    assert languages.language(pl.Series([text])).item() == expected


def test_prior_is_the_entropy_and_uniform_is_log_three() -> None:
    table = votes(90)
    found = tb.evaluate(judged(table), table, resamples=FEW).baselines
    shares = np.array([(table["label"] == k).mean() for k in comparisons.LABELS])
    assert found["prior"].metrics["log_loss"].value == pytest.approx(-(shares * np.log(shares)).sum())
    assert found["uniform"].metrics["log_loss"].value == pytest.approx(math.log(3))
    assert found["uniform"].metrics["accuracy"].value == pytest.approx(1 / 3)
    assert found["prior"].metrics["accuracy"].value == pytest.approx(shares.max())
    length = np.array([[len(" ".join(r)) for r in table[f"response_{k}"].to_list()] for k in "ab"])
    decided = (table["label"] != "tie").to_numpy()
    won = np.where((table["label"] == "a").to_numpy(), length[0] - length[1], length[1] - length[0])[decided]
    longer = ((won > 0) + 0.5 * (won == 0)).mean()
    assert found["longer_wins"].metrics["decisive_accuracy"].value == pytest.approx(longer)


def test_a_prior_that_is_even_between_a_and_b_still_names_one_of_them() -> None:
    table = votes(10).with_columns(label=pl.Series(["a", "b"] * 4 + ["tie"] * 2).cast(comparisons.LABEL))
    found = tb.evaluate(judged(table), table, resamples=FEW).baselines
    assert found["prior"].metrics["accuracy"].value == pytest.approx(0.4)


def test_length_baseline_learns_from_other_groups_only() -> None:
    """Labels without any pattern: a baseline that saw its own row's label would beat the prior."""
    table = votes(400, seed=9)
    rng = np.random.default_rng(9)
    table = table.with_columns(label=pl.Series(rng.choice(comparisons.LABELS, 400)).cast(comparisons.LABEL))
    found = tb.evaluate(judged(table), table, resamples=FEW).baselines
    assert found["length"].metrics["log_loss"].value > found["prior"].metrics["log_loss"].value


@settings(deadline=None, max_examples=15)
@given(SEEDS)
def test_length_baseline_mirrors_exactly_under_swap(seed: int) -> None:
    table = votes(50, seed=seed)
    given_, mirrored = (
        baselines.cross_fitted_length(sample.build(each, judged(each), resamples=10, seed=0))
        for each in (table, comparisons.swap(table))
    )
    assert (given_ == mirrored[:, [1, 0, 2]]).all()


def test_paired_difference_is_antisymmetric_and_none_from_itself() -> None:
    table = votes(300)
    good, bad = judged(table, skill=2), judged(table, skill=0.2, seed=1)
    forth = tb.evaluate(good, table, against=bad, resamples=300, against_name="bad").comparison
    back = tb.evaluate(bad, table, against=good, resamples=300).comparison
    assert forth is not None
    assert back is not None
    assert forth.difference["log_loss"].high < 0 < back.difference["log_loss"].low
    assert forth.difference["accuracy"].low > 0
    assert forth.difference["log_loss"].value == pytest.approx(-back.difference["log_loss"].value)
    assert forth.difference["log_loss"].low == pytest.approx(-back.difference["log_loss"].high)
    assert "better than bad" in forth.sentence
    assert "worse than" in back.sentence
    same = tb.evaluate(good, table, against=good, resamples=FEW).comparison
    assert same is not None
    assert same.difference["log_loss"].low == same.difference["log_loss"].high == 0
    assert "cannot tell the two apart" in same.sentence


def test_position_audit_from_predictions_of_the_mirrored_votes() -> None:
    table = votes(100)
    frame, swapped = judged(table), judged(comparisons.swap(table), seed=5)
    figures = tb.evaluate(frame, table, swapped=swapped, resamples=FEW).audits["position"].figures
    p, back = predictions.probabilities(frame), predictions.probabilities(swapped)[:, [1, 0, 2]]
    flips = np.mean([x.argmax() != y.argmax() for x, y in zip(p, back, strict=True)])
    assert figures["verdict_flips"].value == pytest.approx(flips)
    assert figures["swap_gap"].value == pytest.approx(np.abs(p - back).max(axis=1).mean())


def test_what_was_not_measured_is_said() -> None:
    table = votes(100)
    unknown = judged(table).with_columns(swap_gap=pl.lit(None, dtype=pl.Float64))
    audit = tb.evaluate(unknown, table, resamples=FEW).audits["position"]
    assert set(audit.not_measured) == {"swap_gap", "verdict_flips"}
    reported = judged(table).with_columns(swap_gap=pl.lit(0.02))
    audit = tb.evaluate(reported, table, resamples=FEW).audits["position"]
    assert audit.figures["swap_gap"].value == pytest.approx(0.02)
    assert set(audit.not_measured) == {"verdict_flips"}
    audit = tb.evaluate(judged(table), table, resamples=FEW).audits["position"]
    assert audit.figures["verdict_flips"].value == 0
    assert not audit.not_measured


def test_length_audit_sees_a_judge_in_love_with_length() -> None:
    table = votes(300)
    longer = [
        sum(map(len, a)) > sum(map(len, b)) for a, b in zip(table["response_a"], table["response_b"], strict=True)
    ]
    p = np.where(np.array(longer)[:, None], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05])
    found = tb.evaluate(predictions.build(table["id"], p), table, resamples=200)
    figures = found.audits["length"].figures
    assert figures["longer_share_gap"].low > 0
    assert figures["length_slope_predicted"].low > figures["length_slope_actual"].high
    assert any("leans to the longer answer" in text for text in summary.sentences(found))


def test_a_calibrated_judge_is_not_called_miscalibrated() -> None:
    rng = np.random.default_rng(0)
    table = votes(2000)
    p = rng.dirichlet([2, 2, 2], 2000)
    drawn = [rng.choice(comparisons.LABELS, p=row) for row in p]
    table = table.with_columns(label=pl.Series(drawn).cast(comparisons.LABEL))
    found = tb.evaluate(predictions.build(table["id"], p), table, resamples=FEW)
    assert found.calibrated_ece.low < found.metrics["ece"].value < found.calibrated_ece.high * 1.3
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    over = tb.evaluate(predictions.build(table["id"], sharp), table, resamples=FEW)
    assert over.metrics["ece"].value > 3 * over.calibrated_ece.high
    assert any("over-confident" in text for text in summary.sentences(over))


def test_votes_without_ties_and_votes_without_texts() -> None:
    table = votes(80, ties=False)
    frame = judged(table)
    found = tb.evaluate(frame, table, resamples=FEW)
    assert found.metrics["actual_share_tie"].value == 0
    assert math.isnan(found.metrics["recall_tie"].value)
    assert any("No vote is a tie" in text for text in summary.sentences(found))
    bare = tb.evaluate(frame, table.select("id", "label"), resamples=FEW)
    assert bare.metrics["log_loss"].value == pytest.approx(found.metrics["log_loss"].value)
    assert set(bare.baselines) == {"uniform", "prior"}
    assert "language" in bare.left_out
    assert not bare.slices
    assert "length" not in bare.curves


def test_one_vote_is_enough_for_figures_but_not_for_intervals() -> None:
    table = votes(1)
    found = tb.evaluate(judged(table), table, against=judged(table, seed=2), resamples=FEW)
    document = json.loads(found.to_json())
    assert document["metrics"]["log_loss"]["value"] > 0
    assert document["metrics"]["log_loss"]["low"] is None
    assert "too few groups" in summary.sentences(found)[1]


def test_nothing_to_score_is_an_error() -> None:
    table = votes(10)
    frame = judged(table)
    with pytest.raises(DataError, match="none of the 10 votes"):
        tb.evaluate(frame, table.with_columns(label=pl.lit(None, dtype=comparisons.LABEL)))
    with pytest.raises(DataError, match="no prediction"):
        tb.evaluate(frame[:5], table)
    with pytest.raises(DataError, match="against"):
        tb.evaluate(frame, table, against=frame.drop("p_tie"))
    with pytest.raises(UsageError, match="resamples"):
        tb.evaluate(frame, table, resamples=1)


def test_same_inputs_same_bytes_other_seed_other_intervals() -> None:
    table = votes(60)
    one, two, other = (tb.evaluate(judged(table), table, resamples=FEW, seed=s).to_json() for s in (0, 0, 1))
    assert one == two != other
    assert "nan" not in one.lower().replace("name", "")


def test_repr_says_what_matters() -> None:
    table = votes(60)
    text = repr(tb.evaluate(judged(table), table, resamples=FEW, name="mine"))
    assert text.startswith("Evaluation of mine on 60 votes")
    assert "log_loss" in text
    assert "class prior" in text


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(("judge", "log_loss", "accuracy"), [("m1", 0.9488, 0.545), ("m2", 0.9389, 0.562)])
def test_published_figures_of_two_fine_tuned_judges(judge: str, log_loss: float, accuracy: float) -> None:
    raw = pl.read_parquet(SHARED / "kaggle_lmsys_llm_predictions.parquet")
    p = raw.select(f"{judge}_a", f"{judge}_b", f"{judge}_tie").to_numpy()
    frame = predictions.build(raw["id"].cast(pl.String), p / p.sum(axis=1, keepdims=True))
    found = tb.evaluate(frame, raw.select(pl.col("id").cast(pl.String), "label"), resamples=FEW)
    assert found.metrics["log_loss"].value == pytest.approx(log_loss, abs=1e-4)
    assert found.metrics["accuracy"].value == pytest.approx(accuracy, abs=5e-4)
    assert found.counts.scored == found.counts.groups == 14_370
