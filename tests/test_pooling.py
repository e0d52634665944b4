"""Opinion pools: closed forms, an independent optimiser, and the mirror that must hold to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import minimize

from tiebreak import pooling
from tiebreak.errors import DataError, UsageError
from tiebreak.predictions import softmax

MIRROR = [1, 0, 2]

logits = arrays.arrays(np.float64, (3, 5, 3), elements=st.floats(-30, 30))
simplex = arrays.arrays(np.float64, 3, elements=st.floats(0.001, 1)).map(lambda w: w / w.sum())


def opinions(rows: int, skills: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Votes drawn from a truth, and opinions that know it to different degrees."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(rows, 3))
    votes = np.eye(3)[(softmax(truth).cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)]
    said = np.stack([softmax(skill * truth + rng.normal(size=(rows, 3))) for skill in skills])
    return said, votes


def test_two_opinions_by_hand() -> None:
    p = np.array([[[0.5, 0.25, 0.25]], [[0.125, 0.5, 0.375]]])
    assert pooling.linear(p)[0] == pytest.approx([0.3125, 0.375, 0.3125], abs=1e-15)
    assert pooling.linear(p, np.array([0.8, 0.2]))[0] == pytest.approx([0.425, 0.3, 0.275], abs=1e-15)
    geometric = np.sqrt(p[0, 0] * p[1, 0])
    assert pooling.logarithmic(p)[0] == pytest.approx(geometric / geometric.sum(), abs=1e-15)
    weighted = p[0, 0] ** 0.8 * p[1, 0] ** 0.2
    assert pooling.logarithmic(p, np.array([0.8, 0.2]))[0] == pytest.approx(weighted / weighted.sum(), abs=1e-15)


def test_one_opinion_is_left_as_it_is() -> None:
    said, _ = opinions(50, [1.0])
    assert pooling.linear(said) == pytest.approx(said[0], abs=1e-15)
    assert pooling.logarithmic(said) == pytest.approx(said[0], abs=1e-15)


def test_a_certain_opinion_is_outvoted_in_one_pool_and_has_a_veto_in_the_other() -> None:
    p = np.array([[[1.0, 0.0, 0.0]], [[0.0, 0.5, 0.5]]])
    assert pooling.linear(p)[0] == pytest.approx([0.5, 0.25, 0.25])
    assert np.isfinite(pooling.logarithmic(p)).all()
    assert pooling.logarithmic(np.array([[[1.0, 0.0, 0.0]], [[0.4, 0.5, 0.1]]]))[0, 0] > 0.999


@settings(deadline=None)
@given(logits, simplex)
def test_swapping_every_opinion_swaps_the_pool_to_the_last_bit(z: np.ndarray, w: np.ndarray) -> None:
    p = np.stack([softmax(one) for one in z])
    mirrored = np.stack([softmax(one[:, MIRROR]) for one in z])
    for pool in (pooling.linear, pooling.logarithmic):
        assert (pool(mirrored, w) == pool(p, w)[:, MIRROR]).all()
        assert pool(p, w).sum(axis=1) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("space", pooling.SPACES)
@pytest.mark.parametrize("skills", [[1.0], [1.0, 0.3], [2.0, 1.0, 0.0], [0.0, -1.0, 1.5, 1.0, 0.2, 3.0]])
def test_weights_against_an_independent_optimiser(space: pooling.Space, skills: list[float]) -> None:
    said, votes = opinions(400, skills, seed=len(skills))
    rows = np.random.default_rng(1).uniform(0.1, 2, 400)
    count = len(skills)

    def loss(w: np.ndarray) -> float:
        w = np.maximum(w, 0)
        pooled = pooling.pool(said, w / w.sum(), space=space)
        return float(np.average(-np.log(pooled[votes > 0]), weights=rows))

    theirs = minimize(
        loss, np.full(count, 1 / count), method="SLSQP", bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    ours = pooling.best_weights(said, votes, rows, space=space)
    assert ours.min() >= 0
    assert ours.sum() == pytest.approx(1, abs=1e-12)
    assert loss(ours) <= theirs.fun + 1e-10
    assert ours == pytest.approx(theirs.x, abs=1e-3)


@pytest.mark.parametrize("space", pooling.SPACES)
def test_opinions_that_are_the_same_share_their_weight(space: pooling.Space) -> None:
    said, votes = opinions(300, [1.0, 0.5])
    thrice = said[[0, 0, 0, 1]]
    weights = pooling.best_weights(thrice, votes, np.ones(300), space=space)
    alone = pooling.best_weights(said, votes, np.ones(300), space=space)
    assert weights[:3].sum() == pytest.approx(alone[0], abs=1e-6)
    assert weights[:3] == pytest.approx(np.full(3, alone[0] / 3), abs=1e-6)


@pytest.mark.parametrize("space", pooling.SPACES)
def test_a_soft_label_and_a_weight_are_so_many_votes(space: pooling.Space) -> None:
    said, votes = opinions(120, [1.0, 0.4])
    soft = 0.7 * votes + 0.3 * np.roll(votes, 1, axis=1)
    split = np.concatenate([votes, np.roll(votes, 1, axis=1)])
    shares = np.repeat([0.7, 0.3], 120)
    once = pooling.best_weights(said, soft, np.ones(120), space=space)
    twice = pooling.best_weights(np.concatenate([said, said], axis=1), split, shares, space=space)
    assert once == pytest.approx(twice, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_fitted_weights_do_not_see_which_side_is_a(seed: int) -> None:
    said, votes = opinions(60, [1.0, 0.2, 2.0], seed)
    swapped = np.random.default_rng(seed).random(60) < 0.5
    mirrored = np.where(swapped[:, None], said[:, :, MIRROR], said)
    turned = np.where(swapped[:, None], votes[:, MIRROR], votes)
    for space in pooling.SPACES:
        given_order = pooling.fit(said, votes, space=space)  # type: ignore[arg-type]
        other_order = pooling.fit(mirrored, turned, space=space)  # type: ignore[arg-type]
        assert (given_order.weights == other_order.weights).all()
        assert given_order.log_loss == other_order.log_loss


def test_rules_are_judged_on_rows_they_did_not_learn_from() -> None:
    """Thirty opinions of noise: the best single one on the rows themselves looks better than it is out of fold."""
    rng = np.random.default_rng(0)
    noise = np.stack([softmax(rng.normal(size=(100, 3))) for _ in range(30)])
    votes = np.eye(3)[rng.integers(3, size=100)]
    found = pooling.fit(noise, votes)
    inside = -np.log(pooling.linear(noise, found.weights)[votes > 0]).mean()
    assert inside < found.log_loss["equal"].value < found.log_loss["fitted"].value
    assert -np.log(noise[found.single][votes > 0]).mean() < found.log_loss["single"].value
    assert found.best == "equal"


def test_a_fit_says_which_rule_the_votes_support() -> None:
    said, votes = opinions(4000, [2.0, 0.0, 0.0, 0.0])
    found = pooling.fit(said, votes, space="logits")
    assert found.single == 0
    assert found.best in {"single", "fitted"}
    assert found.change["fitted"].high < 0
    assert found.change["equal"].value == found.change["equal"].high == 0
    assert found.by_fold.shape == (5, 4)
    assert np.ptp(found.by_fold[:, 0]) < 0.2
    same, votes = opinions(4000, [1.0, 1.0, 1.0])
    assert pooling.fit(same, votes).best == "equal"


def test_groups_stay_together_and_rows_without_a_vote_stay_out() -> None:
    said, votes = opinions(200, [1.0, 0.5])
    doubled, groups = np.concatenate([said, said], axis=1), np.tile(np.arange(200), 2)
    once, twice = pooling.fit(said, votes), pooling.fit(doubled, np.concatenate([votes, votes]), groups=groups)
    assert twice.groups == 200
    assert twice.log_loss["fitted"].value == pytest.approx(once.log_loss["fitted"].value, abs=1e-9)
    assert twice.log_loss["equal"].high == pytest.approx(once.log_loss["equal"].high, abs=1e-9)
    with_gaps = np.concatenate([votes, np.full((200, 3), np.nan)])
    assert pooling.fit(doubled, with_gaps).rows == 200
    assert pooling.fit(doubled, with_gaps).weights == pytest.approx(once.weights, abs=1e-9)


def test_what_cannot_be_pooled_is_refused() -> None:
    said, votes = opinions(20, [1.0, 0.5])
    with pytest.raises(UsageError, match="no pool in the space of 'odds'"):
        pooling.fit(said, votes, space="odds")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no pool in the space of 'odds'"):
        pooling.pool(said, space="odds")  # type: ignore[arg-type]
    for weights in ([0.5], [0.5, 0.6], [-0.1, 1.1], [np.nan, 1.0]):
        with pytest.raises(DataError, match="expected 2 numbers >= 0 with sum 1"):
            pooling.linear(said, np.array(weights))
    with pytest.raises(DataError, match=r"expected \(opinions, rows, 3\)"):
        pooling.logarithmic(said[0])
    with pytest.raises(DataError, match="do not belong together"):
        pooling.fit(said, votes[:10])
    with pytest.raises(DataError, match="no row has a label"):
        pooling.fit(said, np.full((20, 3), np.nan))
    with pytest.raises(DataError, match="hold a number that is none"):
        pooling.fit(np.where(said > 0.9, np.nan, said), votes)
    with pytest.raises(DataError, match="3 groups of rows for 5 parts"):
        pooling.fit(said, votes, groups=np.arange(20) % 3)
