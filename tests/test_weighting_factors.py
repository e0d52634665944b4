"""Factors of rows against their closed forms: mean 1 over the mass of a step, no say for order, swap or rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import finetune_rows
import tiny
from tiebreak import comparisons
from tiebreak.errors import DataError, UsageError
from tiebreak.render import Renderer, template
from tiebreak.train.finetune import rules, teachers
from tiebreak.train.finetune.collating import Examples, Steps, order, render
from tiebreak.train.finetune.recipe import Weighting
from tiebreak.train.finetune.weighting import progress_factors, static_factors, weighted

VOTES = finetune_rows.votes(24)


def settings(kind: str = "learning_progress", **changes: Any) -> Weighting:
    return Weighting.model_validate({"kind": kind, **changes})


def test_learning_progress_by_hand() -> None:
    progress, weights = np.array([0.4, 0.0, -0.1, 2.0]), np.array([1.0, 1.0, 2.0, 0.0])
    # The mean of the step is (0.4 + 0 - 0.2) / 4 = 0.05, the row without weight having no say.
    raw = np.array([1.35, 0.95, 0.85, 2.0])
    mean = (1.35 + 0.95 + 2 * 0.85) / 4
    assert progress_factors(progress, weights, settings()) == pytest.approx(raw / mean, abs=1e-12)
    # Strength 3: 1 + 3 x 0.35 = 2.05 is cut to 2, 1 - 3 x 0.15 = 0.55 is not.
    raw = np.array([2.0, 0.85, 0.55, 2.0])
    expected = raw / ((2.0 + 0.85 + 1.1) / 4)
    assert progress_factors(progress, weights, settings(strength=3)) == pytest.approx(expected, abs=1e-12)


numbers = st.floats(-5, 5, allow_subnormal=False)
rows = st.lists(st.tuples(numbers, st.floats(0, 10, allow_subnormal=False)), min_size=1, max_size=12)


@given(rows, st.floats(0, 4, allow_subnormal=False), st.floats(0, 1), st.floats(1, 3))
def test_factors_have_mean_one_and_follow_the_progress(drawn: list, strength: float, low: float, high: float) -> None:
    progress, weights = np.array(drawn).T
    assume(weights.sum() > 1e-3)
    factors = progress_factors(progress, weights, settings(strength=strength, low=low, high=high))
    assert (weights * factors).sum() / weights.sum() == pytest.approx(1)
    assert (factors >= 0).all()
    assert (np.diff(factors[np.argsort(progress)]) >= -1e-12).all()
    assert factors.max() * low <= factors.min() * high * (1 + 1e-9)


@given(rows, numbers)
def test_only_progress_beyond_the_mean_counts(drawn: list, shift: float) -> None:
    progress, weights = np.array(drawn).T
    plain = progress_factors(progress, weights, settings())
    assert progress_factors(progress + shift, weights, settings()) == pytest.approx(plain, abs=1e-9)


def test_no_progress_no_strength_and_no_mass_leave_rows_alone() -> None:
    progress, weights = np.array([0.3, -0.2, 0.1]), np.array([1.0, 2.0, 3.0])
    assert progress_factors(np.zeros(3), weights, settings()).tolist() == [1, 1, 1]
    assert progress_factors(progress, weights, settings(strength=0)).tolist() == [1, 1, 1]
    assert progress_factors(progress, np.zeros(3), settings()).tolist() == [1, 1, 1]


TARGETS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
TEACHERS = np.array([
    [[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]],  # mean .7 .2 .1
    [[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]],
    [[0.2, 0.2, 0.6], [0.2, 0.22, 0.58]],  # mean .2 .21 .59
    [[0.2, 0.8, 0.0], [0.6, 0.4, 0.0]],  # mean .4 .6 0
])  # fmt: skip


def test_teacher_agreement_by_hand() -> None:
    weights = np.array([1.0, 1.0, 1.0, 2.0])
    agreement = np.array([0.7, 0.2, 0.59, 0.5])
    mean = (0.7 + 0.2 + 0.59 + 2 * 0.5) / 5
    found = static_factors(TARGETS, TEACHERS, weights, settings("teacher_agreement"))
    assert found == pytest.approx(np.clip(agreement / mean, 0.5, 2), abs=1e-12)
    assert found[1] == 0.5  # .2 / .498 is cut
    found = static_factors(TARGETS, TEACHERS, weights, settings("teacher_agreement", strength=0.5, low=0))
    assert found == pytest.approx(np.sqrt(agreement / mean), abs=1e-12)
    assert static_factors(TARGETS, TEACHERS, weights, settings("teacher_agreement", strength=0)).tolist() == [1] * 4


def test_margin_by_hand() -> None:
    weights = np.ones(4)
    assert static_factors(TARGETS, TEACHERS, weights, settings("margin")).tolist() == [1, 1, 0, 1]
    assert static_factors(TARGETS, TEACHERS, weights, settings("margin", strength=0.25)).tolist() == [1, 1, 0.75, 1]
    assert static_factors(TARGETS, TEACHERS, weights, settings("margin", margin=0.3)).tolist() == [1, 1, 0, 0]


@given(st.integers(0, 2**32), st.sampled_from(["margin", "teacher_agreement"]))
def test_swapping_the_answers_changes_no_bit(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    targets, teachers = rng.dirichlet([1, 1, 1], 7), rng.dirichlet([1, 1, 1], (7, 2))
    weights, turned = rng.random(7), [1, 0, 2]
    plain = static_factors(targets, teachers, weights, settings(kind, margin=0.2))
    mirrored = static_factors(targets[:, turned], teachers[..., turned], weights, settings(kind, margin=0.2))
    assert (plain == mirrored).all()


def examples(teachers: np.ndarray | None = None) -> Examples:
    return render(VOTES, [Renderer(template("plain", max_length=200), tiny.tokenizer())], "classifier", twin=True,
                  teachers=teachers)  # fmt: skip


def test_static_factors_are_scaled_by_the_step_and_are_told() -> None:
    teachers = np.random.default_rng(0).dirichlet([1, 1, 1], (24, 2))
    plain = examples(teachers)
    chosen = finetune_rows.recipe(Path("nowhere"))
    after, notes = weighted(plain, settings("teacher_agreement"))
    factors = static_factors(comparisons.targets(VOTES), teachers.astype(np.float32), plain.weights,
                             settings("teacher_agreement"))  # fmt: skip
    assert after.weights == pytest.approx(plain.weights * factors)
    step = order(24, 1, 8, 3)
    micro = Steps(after, step, chosen.batches)[0]["micro_batches"]
    mass = sum(np.bincount(part.rows, part.weights, 8) for part in micro)
    assert mass == pytest.approx(after.weights[step[0]] / after.weights[step[0]].sum(), abs=1e-6)
    assert notes[0].startswith(f"weighting teacher_agreement: factors from 0.50 to {factors.max():.2f}; shares of the")


def test_margin_says_whom_it_takes_weight_from() -> None:
    sure, torn = np.array([0.9, 0.05, 0.05]), np.array([0.1, 0.1, 0.8])
    teachers = np.stack([torn if label == "tie" else sure for label in VOTES["label"]])[:, None]
    after, (note,) = weighted(examples(teachers), settings("margin"))
    ties = (VOTES["label"] == "tie").to_numpy()
    assert (after.weights[ties] == 0).all()
    assert f"weighting margin: {ties.sum()} of 24 rows count nothing" in note
    assert note.endswith("to 0.0%")
    with pytest.raises(DataError, match="leaves none of 24 rows a weight"):
        weighted(examples(np.tile(torn, (24, 1, 1))), settings("margin"))


@pytest.mark.parametrize("kind", ["margin", "teacher_agreement"])
def test_without_teachers_the_kinds_that_ask_them_are_refused(kind: str) -> None:
    with pytest.raises(UsageError, match=rf"weighting\.kind {kind} without teachers"):
        weighted(examples(), settings(kind))


@pytest.mark.parametrize("kind", [None, "learning_progress"])
def test_the_other_kinds_leave_the_rows_as_they_are(kind: str | None) -> None:
    plain = examples()
    after, notes = weighted(plain, Weighting(kind=kind))
    assert after is plain
    assert notes == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "learning_progress", "low": 1.5}, "weighting.low 1.5"),
        ({"kind": "teacher_agreement", "high": 0.9}, "weighting.high 0.9"),
        ({"kind": "margin", "low": 0.1}, "weighting.low with weighting.kind margin"),
        ({"decay": 0.9}, "weighting.decay with weighting.kind None"),
        ({"kind": "learning_progress", "margin": 0.1}, "weighting.margin with weighting.kind learning_progress"),
        ({"kind": "learning_progress", "decay": 0.9, "strength": 2, "low": 0, "high": 3}, None),
        ({"kind": "margin", "margin": 0.1, "strength": 0.5}, None),
    ],
)
def test_keys_that_say_nothing_and_bounds_without_room_are_faults(given: dict[str, Any], words: str | None) -> None:
    found = rules.broken(finetune_rows.recipe(Path("nowhere"), weighting=given), None)
    assert [fault.wrong for fault in found] == ([words] if words else [])


def test_a_run_without_teachers_is_refused_before_anything_is_loaded() -> None:
    chosen = finetune_rows.recipe(Path("nowhere"), weighting={"kind": "margin"})
    with pytest.raises(UsageError, match=r"weighting\.kind margin without teachers"):
        teachers.settled(chosen)
    assert teachers.settled(chosen, ["labels.parquet"]).data.teachers == ["labels.parquet"]
