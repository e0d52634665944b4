"""The figures: closed forms, scikit-learn, and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tiebreak.errors import DataError
from tiebreak.predictions import verdicts
from tiebreak.scoring import metrics

SEEDS = st.integers(0, 2**32 - 1)


def sample(seed: int, rows: int = 200, *, soft: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1, 1, 1], rows)
    t = rng.dirichlet([1, 1, 1], rows) if soft else np.eye(3)[rng.integers(3, size=rows)]
    return p, t, rng.uniform(0.1, 3, rows)


def test_uniform_costs_log_three_and_certainty_costs_nothing() -> None:
    t = np.eye(3)[[0, 1, 2, 2]]
    assert metrics.log_loss(np.full((4, 3), 1 / 3), t) == pytest.approx(math.log(3), abs=1e-15)
    assert metrics.log_loss(t, t) == pytest.approx(0, abs=1e-15)
    assert metrics.brier(t, t) == 0
    assert metrics.brier(np.full((4, 3), 1 / 3), t) == pytest.approx(2 / 3)
    assert metrics.accuracy(t, t) == metrics.macro_f1(t, t) == metrics.decisive_accuracy(t, t) == 1
    assert metrics.ece(t, t) == metrics.classwise_ece(t, t) == 0


def test_a_certain_miss_is_finite_and_dear() -> None:
    wrong = metrics.log_loss(np.array([[1.0, 0, 0]]), np.array([[0, 1.0, 0]]))
    assert wrong == pytest.approx(-math.log(np.finfo(float).eps))
    assert metrics.brier(np.array([[1.0, 0, 0]]), np.array([[0, 1.0, 0]])) == 2


def test_soft_labels_mean_cross_entropy_and_mass_on_the_verdict() -> None:
    p, t = np.array([[0.5, 0.25, 0.25]]), np.array([[0.6, 0.1, 0.3]])
    assert metrics.log_loss(p, t) == pytest.approx(0.6 * math.log(2) + 0.4 * math.log(4))
    assert metrics.accuracy(p, t) == pytest.approx(0.6)
    assert metrics.brier(p, t) == pytest.approx(0.01 + 0.0225 + 0.0025)
    assert metrics.decisive_accuracy(p, t) == pytest.approx(0.6 / 0.7)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_same_as_scikit_learn(seed: int) -> None:
    p, t, w = sample(seed)
    truth, said = t.argmax(axis=1), verdicts(p)
    assert metrics.log_loss(p, t, w) == pytest.approx(sk.log_loss(truth, p, sample_weight=w, labels=[0, 1, 2]))
    assert metrics.accuracy(p, t, w) == pytest.approx(sk.accuracy_score(truth, said, sample_weight=w))
    assert metrics.macro_f1(p, t, w) == pytest.approx(sk.f1_score(truth, said, average="macro", sample_weight=w))
    assert metrics.brier(p, t, w) == pytest.approx(
        sk.brier_score_loss(truth, p, sample_weight=w, labels=[0, 1, 2], scale_by_half=False)
    )
    matrix = metrics.confusion(p, t, w)
    assert matrix == pytest.approx(sk.confusion_matrix(truth, said, sample_weight=w, labels=[0, 1, 2]))
    recall, precision, _ = metrics.per_class(matrix)
    assert recall == pytest.approx(sk.recall_score(truth, said, average=None, sample_weight=w))
    assert precision == pytest.approx(sk.precision_score(truth, said, average=None, sample_weight=w))


def brute_force_error(values: list[float], seen: list[float], bins: int) -> float:
    """Row by row: a bin holds the rows whose number of strictly smaller values falls into its part of the rows."""
    cells: dict[int, list[tuple[float, float]]] = {}
    for value, outcome in zip(values, seen, strict=True):
        below = sum(1 for other in values if other < value)
        cells.setdefault(below * bins // len(values), []).append((value, outcome))
    return sum(abs(sum(v for v, _ in cell) - sum(s for _, s in cell)) for cell in cells.values()) / len(values)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 60), st.booleans())
def test_calibration_errors_same_as_brute_force(seed: int, rows: int, coarse: bool) -> None:
    p, t, _ = sample(seed, rows)
    if coarse:  # many equal values
        p = np.round(p * 4) + 0.1
        p /= p.sum(axis=1, keepdims=True)
    hits = [float(t[i, v]) for i, v in enumerate(verdicts(p))]
    sure = [float(p[i, v]) for i, v in enumerate(verdicts(p))]
    assert metrics.ece(p, t) == pytest.approx(brute_force_error(sure, hits, 15))
    each = [brute_force_error(p[:, k].tolist(), t[:, k].tolist(), 15) for k in range(3)]
    assert metrics.classwise_ece(p, t) == pytest.approx(sum(each) / 3)


def test_bins_have_equal_mass_and_equal_values_share_one() -> None:
    values = np.random.default_rng(0).permutation(150) / 150
    assert np.bincount(metrics.equal_mass_bins(values)).tolist() == [10] * 15
    assert np.unique(metrics.equal_mass_bins(np.full(50, 0.3))).tolist() == [0]
    weights = np.array([1.0, 1, 1, 3])
    assert metrics.equal_mass_bins(np.array([0.1, 0.2, 0.3, 0.4]), 2, weights).tolist() == [0, 0, 0, 1]


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.booleans())
def test_an_integer_weight_is_a_repeated_row(seed: int, soft: bool) -> None:
    p, t, _ = sample(seed, 40, soft=soft)
    times = np.random.default_rng(seed).integers(1, 4, 40)
    repeated = np.repeat(p, times, axis=0), np.repeat(t, times, axis=0)
    names = ("log_loss", "accuracy", "decisive_accuracy", "brier", "macro_f1", "ece", "classwise_ece")
    for name in names:
        figure = getattr(metrics, name)
        assert figure(p, t, times.astype(float)) == pytest.approx(figure(*repeated)), name


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_swapping_the_sides_changes_no_figure(seed: int) -> None:
    p, t, w = sample(seed)
    for name in ("log_loss", "accuracy", "decisive_accuracy", "brier", "macro_f1", "ece", "classwise_ece"):
        figure = getattr(metrics, name)
        assert figure(p[:, [1, 0, 2]], t[:, [1, 0, 2]], w) == pytest.approx(figure(p, t, w)), name


def test_two_class_votes_leave_the_absent_class_out() -> None:
    t = np.eye(3)[[0, 1, 0, 1]]
    p = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.4, 0.6, 0], [0.3, 0.7, 0]])
    assert metrics.macro_f1(p, t) == pytest.approx(sk.f1_score([0, 1, 0, 1], [0, 1, 1, 1], average="macro"))
    recall, precision, f1 = metrics.per_class(metrics.confusion(p, t))
    assert np.isnan([recall[2], precision[2], f1[2]]).all()


@pytest.mark.parametrize(
    ("p", "t", "w"),
    [
        (np.ones((2, 3)) / 3, np.ones((3, 3)) / 3, None),
        (np.ones((2, 2)) / 2, np.ones((2, 2)) / 2, None),
        (np.ones((2, 3)) / 3, np.full((2, 3), np.nan), None),
        (np.ones((2, 3)) / 3, np.ones((2, 3)) / 3, np.zeros(2)),
        (np.ones((0, 3)), np.ones((0, 3)), None),
    ],
)
def test_nothing_to_measure_is_said(p: np.ndarray, t: np.ndarray, w: np.ndarray | None) -> None:
    with pytest.raises(DataError):
        metrics.log_loss(p, t, w)
