"""Fitting against closed forms, finite differences and an independent optimiser."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tiebreak import calibrate
from tiebreak.calibrate.families import FAMILIES, METHODS
from tiebreak.calibrate.newton import design, minimise, objective
from tiebreak.calibration import FLOOR
from tiebreak.errors import CollapseError, DataError, UsageError
from tiebreak.predictions import softmax

MIRROR = [1, 0, 2]


def simulate(rows: int, seed: int = 0, *, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a judge that is over-confident by `temperature`, and votes drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 3)) * [1.0, 1.0, 0.6]
    honest = softmax(logits)
    votes = (honest.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return softmax(logits * temperature), np.eye(3)[votes]


def mean_loss(p: np.ndarray, t: np.ndarray, w: np.ndarray | None = None) -> float:
    return float(np.average(-(t * np.log(p)).sum(axis=1), weights=w))


def test_temperature_is_recovered_exactly_from_soft_labels() -> None:
    logits = np.random.default_rng(1).normal(size=(500, 3))
    fitted = calibrate.fit(softmax(logits * 1.7), softmax(logits), method="temperature")
    np.testing.assert_allclose(fitted.weight, np.eye(3) / 1.7, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_honest_probabilities_are_left_alone(method: str) -> None:
    p = softmax(np.random.default_rng(2).normal(size=(400, 3)))
    fitted = calibrate.fit(p, p, method=method)
    # Even Dirichlet, whose penalty pulls at nothing here: the identity has no off-diagonal and no bias.
    np.testing.assert_allclose(fitted.apply(p), p, atol=1e-9)


def test_a_shift_of_the_prior_is_recovered_exactly() -> None:
    p = softmax(np.random.default_rng(3).normal(size=(400, 3)))
    shift = np.array([0.3, -0.1, -0.5])
    fitted = calibrate.fit(p, softmax(np.log(p) + shift), method="vector")
    np.testing.assert_allclose(fitted.weight, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(fitted.bias, shift - shift.mean(), atol=1e-9)


def test_a_constant_judge_becomes_the_class_shares() -> None:
    t = np.eye(3)[[0] * 50 + [1] * 30 + [2] * 20]
    p = np.tile([0.2, 0.5, 0.3], (100, 1))
    fitted = calibrate.fit(p, t, method="vector", force=True)
    np.testing.assert_allclose(fitted.apply(p), np.tile([0.5, 0.3, 0.2], (100, 1)), atol=1e-10)


def test_temperature_of_simulated_votes() -> None:
    p, t = simulate(40_000, temperature=2.0)
    fitted = calibrate.fit(p, t, method="temperature")
    assert 1 / fitted.weight[0][0] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_gradient_and_hessian_against_finite_differences(method: str, penalty: float) -> None:
    family = FAMILIES[method]
    p, t = simulate(60, seed=4)
    shares = np.random.default_rng(5).random(60)
    arguments = (family, design(p), t, shares / shares.sum(), penalty)
    theta = family.identity + 0.3 * np.random.default_rng(6).normal(size=len(family.identity))
    _, gradient, hessian = objective(theta, *arguments)
    step = 1e-6
    for k in range(len(theta)):
        nudge = step * np.eye(len(theta))[k]
        above, below = objective(theta + nudge, *arguments), objective(theta - nudge, *arguments)
        assert gradient[k] == pytest.approx((above[0] - below[0]) / (2 * step), abs=1e-8)
        np.testing.assert_allclose(hessian[k], (above[1] - below[1]) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_the_optimum_is_that_of_scipy(method: str) -> None:
    """Written anew for an optimiser that shares no code: logits by einsum, loss by log-sum-exp."""
    family = FAMILIES[method]
    penalty = 0.01 if family.penalties else 0.0
    p, t = simulate(800, seed=7, temperature=1.6)
    weights = np.random.default_rng(8).integers(1, 4, size=800).astype(float)

    def loss(theta: np.ndarray) -> float:
        matrix = np.einsum("k,kij->ij", theta, family.basis)
        logits = np.log(np.maximum(p, FLOOR)) @ matrix[:, :3].T + matrix[:, 3]
        rows = np.log(np.exp(logits).sum(axis=1)) - (t * logits).sum(axis=1)
        off = matrix[:, :3][~np.eye(3, dtype=bool)]
        return float(np.average(rows, weights=weights) + penalty * ((off**2).mean() + (matrix[:, 3] ** 2).mean()))

    theirs = minimize(loss, family.identity, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    ours = minimise(family, design(p), t, weights / weights.sum(), penalty)
    assert loss(ours) <= theirs.fun + 1e-12
    np.testing.assert_allclose(
        family.calibration(ours).apply(p), family.calibration(theirs.x).apply(p), atol=2e-6
    )  # fmt: skip


@given(st.integers(0, 2**31), st.sampled_from(METHODS))
@settings(deadline=None, max_examples=25)
def test_swapped_votes_give_the_mirrored_map(seed: int, method: str) -> None:
    p, t = simulate(300, seed=seed, temperature=1.3)
    given_order = calibrate.fit(p, t, method=method, force=True)
    swapped = calibrate.fit(p[:, MIRROR], t[:, MIRROR], method=method, force=True)
    np.testing.assert_allclose(swapped.apply(p[:, MIRROR])[:, MIRROR], given_order.apply(p), atol=1e-7)


@pytest.mark.parametrize("method", ["temperature", "symmetric", "dirichlet-symmetric"])
def test_symmetric_maps_are_exactly_symmetric_and_do_not_see_the_order(method: str) -> None:
    p, t = simulate(500, seed=9, temperature=1.4)
    x, shares = design(p), np.full(500, 1 / 500)
    ours = minimise(FAMILIES[method], x, t, shares, 0.01)
    swapped = minimise(FAMILIES[method], design(p[:, MIRROR]), t[:, MIRROR], shares, 0.01)
    np.testing.assert_allclose(ours, swapped, rtol=0, atol=1e-11)
    fitted = FAMILIES[method].calibration(ours)
    assert fitted.is_symmetric
    assert (fitted.apply(p[:, MIRROR]) == fitted.apply(p)[:, MIRROR]).all()


@pytest.mark.parametrize("method", METHODS)
def test_biases_sum_to_zero(method: str) -> None:
    p, t = simulate(400, seed=10)
    assert sum(calibrate.fit(p, t, method=method).bias) == pytest.approx(0, abs=1e-9)


def test_integer_weights_are_repeated_rows() -> None:
    p, t = simulate(200, seed=11)
    weights = np.random.default_rng(12).integers(0, 4, size=200)
    times = np.repeat(np.arange(200), weights)
    weighted = calibrate.fit(p, t, method="vector", weights=weights.astype(float))
    repeated = calibrate.fit(p[times], t[times], method="vector")
    np.testing.assert_allclose(weighted.weight, repeated.weight, atol=1e-9)
    np.testing.assert_allclose(weighted.bias, repeated.bias, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_fitting_never_raises_the_loss_on_its_rows(method: str) -> None:
    p, t = simulate(600, seed=13, temperature=2.5)
    assert mean_loss(calibrate.fit(p, t, method=method).apply(p), t) < mean_loss(p, t)


def test_a_penalty_shrinks_what_it_names() -> None:
    p, t = simulate(400, seed=14, temperature=0.5)
    shares = np.full(400, 1 / 400)
    size = []
    for penalty in (1e-4, 1e-2, 1.0, 100.0):
        fitted = FAMILIES["dirichlet"].calibration(minimise(FAMILIES["dirichlet"], design(p), t, shares, penalty))
        off = np.array(fitted.weight)[~np.eye(3, dtype=bool)]
        size.append(float((off**2).mean() + np.square(fitted.bias).mean()))
    assert size == sorted(size, reverse=True)
    assert size[-1] < 1e-6


def test_exact_zeros_are_numbers() -> None:
    p, t = simulate(300, seed=15)
    p[:5] = [1.0, 0.0, 0.0]
    assert np.isfinite(calibrate.fit(p, t).apply(p)).all()


def test_predictions_that_know_every_label_have_no_finite_optimum() -> None:
    _, t = simulate(300, seed=16)
    with pytest.raises(CollapseError, match="no finite optimum"):
        calibrate.fit(0.1 + 0.7 * t, t, method="temperature")


def test_votes_without_ties_cannot_set_a_tie_bias() -> None:
    p, t = simulate(300, seed=17)
    decided = t[:, 2] == 0
    with pytest.raises(DataError, match="nobody voted tie"):
        calibrate.fit(p[decided], t[decided], method="symmetric")
    calibrate.fit(p[decided], t[decided], method="temperature")


@pytest.mark.parametrize(("method", "rows"), [("temperature", 9), ("symmetric", 29), ("vector", 49), ("dirichlet", 79)])
def test_too_few_rows_are_refused(method: str, rows: int) -> None:
    p, t = simulate(rows, seed=18)
    with pytest.raises(DataError, match="too few"):
        calibrate.fit(p, t, method=method)


@pytest.mark.parametrize(
    ("p", "t"),
    [
        (np.full((4, 3), 0.5), np.eye(3)[[0, 1, 2, 0]]),
        (np.full((4, 3), 1 / 3), np.ones((4, 3))),
        (np.full((4, 3), np.nan), np.eye(3)[[0, 1, 2, 0]]),
        (np.full((4, 3), 1 / 3), np.full((4, 3), np.nan)),
        (np.full((4, 2), 1 / 2), np.eye(3)[[0, 1, 2, 0]]),
    ],
)
def test_broken_arrays_are_refused(p: np.ndarray, t: np.ndarray) -> None:
    with pytest.raises(DataError):
        calibrate.fit(p, t)


def test_an_unknown_method_and_mixed_arguments_are_usage_errors() -> None:
    p, t = simulate(50)
    with pytest.raises(UsageError, match="platt"):
        calibrate.fit(p, t, method="platt")
    with pytest.raises(UsageError, match="two kinds"):
        calibrate.fit(p, pl.DataFrame({"id": ["1"]}))


def test_tables_meet_by_id_and_bring_their_weights() -> None:
    p, t = simulate(120, seed=19)
    weights = np.random.default_rng(20).random(120) + 0.5
    table = pl.DataFrame({"id": [str(i) for i in range(120)], "p_a": p[:, 0], "p_b": p[:, 1], "p_tie": p[:, 2]})
    votes = pl.DataFrame({
        "id": table["id"], "label": [("a", "b", "tie")[k] for k in t.argmax(axis=1)], "weight": weights,
    })  # fmt: skip
    fitted = calibrate.fit(table.sample(fraction=1.0, shuffle=True, seed=1), votes)
    np.testing.assert_allclose(fitted.weight, calibrate.fit(p, t, weights=weights).weight, atol=1e-10)
