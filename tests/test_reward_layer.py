"""Davidson's and Rao and Kupper's tie models: closed forms, mirrors, and what most votes make likeliest."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tiebreak.calibrate.tie_models import TieRows, evaluate, fit, terms
from tiebreak.calibrate.ties import TIE_METHODS, choose, rewards_of, study_ties, tie_rows
from tiebreak.errors import CollapseError, DataError, UsageError
from tiebreak.judges.reward import DEFAULTS, FAMILIES, Layer, lengths

FAMILY = pytest.mark.parametrize("family", FAMILIES)
NONE = np.zeros(1)


def by_worth(family: str, d: float, tie: float) -> tuple[float, float, float]:
    """As the papers write it, with the worths pi_a = e^d and pi_b = 1."""
    a, b = math.exp(d), 1.0
    if family == "davidson":
        total = a + b + tie * math.sqrt(a * b)
        return a / total, b / total, tie * math.sqrt(a * b) / total
    p_a, p_b = a / (a + tie * b), b / (b + tie * a)
    return p_a, p_b, a * b * (tie**2 - 1) / ((a + tie * b) * (b + tie * a))


def rows_of(
    rewards: np.ndarray, targets: np.ndarray, lengths: np.ndarray | None = None, **changes: np.ndarray
) -> TieRows:
    n = len(rewards)
    fields = {
        "probabilities": np.full((n, 3), 1 / 3), "targets": targets, "groups": np.arange(n), "weights": np.ones(n),
        "rewards": rewards, "lengths": np.zeros(n) if lengths is None else lengths,
    }  # fmt: skip
    return TieRows(**(fields | changes))


def drawn(layer: Layer, n: int, seed: int) -> TieRows:
    """Votes of an arena whose people follow this layer."""
    rng = np.random.default_rng(seed)
    rewards, length = 3 * rng.normal(size=n), rng.normal(size=n)
    p = layer.probabilities(rewards, length)
    votes = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return rows_of(
        rewards, np.eye(3)[votes], length, probabilities=Layer.default(layer.family).probabilities(rewards, length)
    )


@FAMILY
@pytest.mark.parametrize("d", [-30.0, -2.5, -1e-9, 0.0, 0.3, 4.0, 30.0])
@pytest.mark.parametrize("tie", [1.0001, 1.3, 2.0, 11.0])
def test_probabilities_are_those_of_the_papers(family: str, d: float, tie: float) -> None:
    found = Layer(family=family, tie=tie).probabilities(np.array([d]), NONE)[0]  # type: ignore[arg-type]
    np.testing.assert_allclose(found, by_worth(family, d, tie), rtol=1e-9, atol=1e-300)
    assert found.sum() == pytest.approx(1, abs=1e-15)


@FAMILY
def test_before_any_votes_even_answers_get_thirds(family: str) -> None:
    layer = Layer.default(family)  # type: ignore[arg-type]
    np.testing.assert_allclose(layer.probabilities(NONE, NONE), [[1 / 3] * 3], atol=1e-15)
    assert layer.scale == 1
    assert not layer.fitted
    assert layer.tie == DEFAULTS[family]  # type: ignore[index]


@FAMILY
@given(
    st.lists(st.tuples(st.floats(-500, 500), st.floats(-20, 20)), min_size=1, max_size=9),
    st.floats(-5, 5), st.floats(-2, 2), st.floats(1e-6, 50),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_exchanged_answers_exchange_probabilities_bit_by_bit(
    family: str, pairs: list[tuple[float, float]], scale: float, length: float, above: float
) -> None:
    layer = Layer(family=family, scale=scale, length=length, tie=1 + above)  # type: ignore[arg-type]
    r, l = np.array(pairs).T  # noqa: E741 - as the paper
    given, swapped = layer.probabilities(r, l), layer.probabilities(-r, -l)
    assert (given == swapped[:, [1, 0, 2]]).all()
    assert np.isfinite(given).all()
    assert ((given[:, 0] - given[:, 1]) * layer.margin(r, l) >= 0).all()


@FAMILY
@given(st.floats(-200, 200), st.floats(1e-3, 20))
@settings(max_examples=80, deadline=None)
def test_margins_come_back_from_probabilities(family: str, d: float, above: float) -> None:
    layer = Layer(family=family, tie=1 + above)  # type: ignore[arg-type]
    p = layer.probabilities(np.array([d]), NONE)
    assert layer.margins(p)[0] == pytest.approx(d, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("family", "tie"), [("davidson", 0.0), ("davidson", -1.0), ("rao-kupper", 1.0)])
def test_a_tie_parameter_beyond_its_bound_is_refused(family: str, tie: float) -> None:
    with pytest.raises(ValidationError, match="not above"):
        Layer(family=family, tie=tie)  # type: ignore[arg-type]


def test_lengths_are_logs_of_characters_of_all_turns() -> None:
    table = pl.DataFrame(
        {"response_a": [["abc", None], [""], [None]], "response_b": [["é"], ["xx"], []]},
        schema={"response_a": pl.List(pl.String), "response_b": pl.List(pl.String)},
    )
    np.testing.assert_allclose(lengths(table), [math.log(4) - math.log(2), -math.log(3), 0])


@FAMILY
def test_log_loss_and_derivatives_agree_with_differences(family: str) -> None:
    rng = np.random.default_rng(3)
    d, targets = 3 * rng.normal(size=40), rng.dirichlet((1, 1, 1), size=40)
    h, step = 0.4, 1e-5
    found = terms(family, d, h, targets)  # type: ignore[arg-type]
    expected = [-np.dot(t, np.log(by_worth(family, x, math.exp(h)))) for x, t in zip(d, targets, strict=True)]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-12)

    def at(dd: float, dh: float) -> object:
        return terms(family, d + dd, h + dh, targets)  # type: ignore[arg-type]

    def slope(name: str, dd: float, dh: float) -> np.ndarray:
        high, low = at(dd * step, dh * step), at(-dd * step, -dh * step)
        return np.asarray((getattr(high, name) - getattr(low, name)) / (2 * step))

    for name, source, dd, dh in (
        ("by_margin", "loss", 1, 0), ("by_tie", "loss", 0, 1), ("margin_margin", "by_margin", 1, 0),
        ("margin_tie", "by_margin", 0, 1), ("tie_tie", "by_tie", 0, 1),
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(found, name), slope(source, dd, dh), atol=1e-8)


@FAMILY
@pytest.mark.parametrize("length", [False, True])
def test_the_optimum_is_that_of_a_search_which_knows_no_derivative(family: str, length: bool) -> None:
    """A grid that shrinks around its best point, on the log-loss as the papers' formulas give it."""
    rows = drawn(Layer(family=family, scale=0.6, tie=1.7, length=0.4), 250, 5)  # type: ignore[arg-type]
    layer, _ = fit(rows, family, length=length)  # type: ignore[arg-type]
    size = 2 + length

    def loss(theta: np.ndarray) -> float:
        scale, rate, tie = theta[0], theta[1] if length else 0.0, math.exp(theta[-1])
        d = scale * rows.rewards + rate * rows.lengths
        if family == "davidson":
            logits = np.stack([d / 2, -d / 2, np.full_like(d, math.log(tie))], axis=1)
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        else:
            if tie <= 1:
                return math.inf
            p_a, p_b = 1 / (1 + tie * np.exp(-d)), 1 / (1 + tie * np.exp(d))
            p = np.stack([p_a, p_b, 1 - p_a - p_b], axis=1)
        return float(-(rows.targets * np.log(p)).sum(axis=1).mean())

    best, width = np.full(size, 0.5), 1.0
    while width > 2e-7:
        grid = [best + width * np.array(step) for step in product((-1, -0.5, 0, 0.5, 1), repeat=size)]
        losses = [loss(point) for point in grid]
        place = int(np.argmin(losses))
        width *= 0.6 if np.allclose(grid[place], best) else 1.0
        best = grid[place]
    found = [layer.scale, layer.length, math.log(layer.tie)]
    np.testing.assert_allclose([found[0], *found[2 - length :]], best, atol=2e-6)


@FAMILY
def test_without_an_opinion_the_tie_parameter_has_a_closed_form(family: str) -> None:
    """Rewards that are all equal: ties come out as often as they were voted."""
    targets = np.eye(3)[[0] * 30 + [1] * 50 + [2] * 20]
    layer, _ = fit(rows_of(np.zeros(100), targets), family)  # type: ignore[arg-type]
    assert layer.tie == pytest.approx({"davidson": 2 * 0.2 / 0.8, "rao-kupper": 1.2 / 0.8}[family], rel=1e-9)
    assert layer.probabilities(NONE, NONE)[0, 2] == pytest.approx(0.2, abs=1e-12)


@FAMILY
def test_one_pair_of_votes_has_a_closed_form(family: str) -> None:
    """One margin and its three shares: the model has two parameters for two free shares, and meets them exactly."""
    shares = np.array([[0.6, 0.15, 0.25]])
    layer, _ = fit(rows_of(np.array([2.0]), shares), family)  # type: ignore[arg-type]
    np.testing.assert_allclose(layer.probabilities(np.array([2.0]), NONE), shares, atol=1e-9)
    a, b, t = shares[0]
    if family == "davidson":
        expected = (math.log(a / b) / 2, t / math.sqrt(a * b))
    else:
        odds = [math.log(p / (1 - p)) for p in (a, b)]
        expected = ((odds[0] - odds[1]) / 4, math.exp(-(odds[0] + odds[1]) / 2))
    np.testing.assert_allclose((layer.scale, layer.tie), expected, rtol=1e-8)


@FAMILY
def test_weights_count_as_copies_and_units_of_reward_do_not_matter(family: str) -> None:
    rows = drawn(Layer(family=family, scale=0.5, tie=1.6), 120, 9)  # type: ignore[arg-type]
    weights = np.random.default_rng(0).integers(1, 4, size=120)
    copies = rows.take(np.repeat(np.arange(120), weights))
    weighted = rows_of(rows.rewards, rows.targets, rows.lengths, weights=weights.astype(float))
    one, _ = fit(weighted, family, length=True)  # type: ignore[arg-type]
    two, _ = fit(copies, family, length=True)  # type: ignore[arg-type]
    milli, _ = fit(rows_of(rows.rewards / 1000, rows.targets, rows.lengths, weights=weights * 1.0), family, length=True)  # type: ignore[arg-type]
    for name in ("scale", "tie", "length"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-8)
    assert milli.scale == pytest.approx(1000 * one.scale, rel=1e-8)


@FAMILY
def test_a_mirrored_table_gives_the_same_layer(family: str) -> None:
    rows = drawn(Layer(family=family, scale=0.5, tie=1.6, length=0.3), 200, 4)  # type: ignore[arg-type]
    mirrored = rows_of(-rows.rewards, rows.targets[:, [1, 0, 2]], -rows.lengths)
    one, two = (fit(each, family, length=True)[0] for each in (rows, mirrored))  # type: ignore[arg-type]
    for name in ("scale", "tie", "length"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-9)


@FAMILY
def test_a_simulated_arena_gives_its_parameters_back(family: str) -> None:
    """Of 40 arenas of 800 votes, the 95 % intervals hold the truth about as often as they say."""
    truth = Layer(family=family, scale=0.7, tie=1.8, length=0.35)  # type: ignore[arg-type]
    held = {"scale": 0, "length": 0, "tie": 0}
    found = []
    for seed in range(40):
        layer, intervals = fit(drawn(truth, 800, seed), family, length=True)  # type: ignore[arg-type]
        found.append([layer.scale, layer.length, layer.tie])
        for name in held:
            held[name] += intervals[name].low <= getattr(truth, name) <= intervals[name].high
    np.testing.assert_allclose(np.mean(found, axis=0), [0.7, 0.35, 1.8], rtol=0.03)
    assert min(held.values()) >= 33, held  # 38 expected; 32 or fewer happens once in some 1,000 at 95 %


def test_intervals_widen_where_votes_come_in_groups() -> None:
    rows = drawn(Layer(scale=0.5, tie=1.2), 300, 2)
    alone = fit(rows, "davidson")[1]["scale"]
    copies = rows.take(np.repeat(np.arange(300), 4))
    together = rows_of(copies.rewards, copies.targets, groups=np.repeat(np.arange(300), 4))
    grouped, pretended = (
        fit(together, "davidson")[1]["scale"],
        fit(rows_of(copies.rewards, copies.targets), "davidson")[1]["scale"],
    )
    assert (grouped.high - grouped.low) == pytest.approx(alone.high - alone.low, rel=1e-6)
    assert (pretended.high - pretended.low) == pytest.approx((alone.high - alone.low) / 2, rel=1e-6)


@FAMILY
def test_scores_that_never_err_have_no_optimum(family: str) -> None:
    rewards = np.concatenate([np.linspace(1, 9, 40), np.linspace(-9, -1, 40), np.zeros(20)])
    targets = np.eye(3)[np.where(rewards > 0, 0, np.where(rewards < 0, 1, 2))]
    with pytest.raises(CollapseError, match="without a single error"):
        fit(rows_of(rewards, targets), family)  # type: ignore[arg-type]


def test_a_point_beyond_the_bound_is_never_taken() -> None:
    rows = drawn(Layer(family="rao-kupper", scale=1.0, tie=1.05), 300, 0)
    assert evaluate("rao-kupper", rows.rewards[:, None], np.array([1.0, -0.1]), rows).loss == np.inf
    layer, _ = fit(rows, "rao-kupper")
    assert layer.tie > 1


def test_the_study_prefers_the_model_that_made_the_votes() -> None:
    rows = drawn(Layer(family="rao-kupper", scale=0.8, tie=2.5, length=0.8), 3000, 1)
    study = study_ties(rows)
    assert list(study.results) == ["none", "prior", *TIE_METHODS]
    assert study.best == "rao-kupper-length"
    assert choose(study, "auto") == "rao-kupper-length"
    assert not study.results["rao-kupper-length"].faults
    assert study.results["rao-kupper-length"].change.high < 0
    with pytest.raises(UsageError, match="one of davidson"):
        choose(study, "elo")


@pytest.mark.parametrize("noise", ["scores of nothing", "turned round"])
def test_the_alarm_refuses_scores_that_know_nothing_or_the_contrary(noise: str) -> None:
    rows = drawn(Layer(scale=0.8, tie=1.0), 600, 1)
    rewards = -rows.rewards if noise == "turned round" else np.random.default_rng(7).normal(size=600)
    result = study_ties(rows_of(rewards, rows.targets)).results["davidson"]
    wanted = "negative" if noise == "turned round" else "hardly more than a constant"
    assert any(wanted in fault for fault in result.faults)


def test_votes_without_ties_or_texts_or_labels_are_said_to_be_so() -> None:
    rows = drawn(Layer(), 200, 0)
    decided = rows.take(rows.targets[:, 2] == 0)
    study = study_ties(decided)
    assert "nobody voted tie" in study.skipped["davidson"]
    with pytest.raises(DataError, match="nobody voted tie"):
        choose(study, "auto")
    short = study_ties(rows_of(rows.rewards, rows.targets))
    with pytest.raises(DataError, match="no texts"):
        choose(short, "davidson-length")


def test_rewards_come_out_of_a_prediction_table() -> None:
    layer = Layer(family="rao-kupper", scale=0.5, tie=1.5)
    rewards = np.linspace(-20, 20, 30)
    p = layer.probabilities(rewards, np.zeros(30))
    ids = [str(i) for i in range(30)]
    table = pl.DataFrame({"id": ids, "p_a": p[:, 0], "p_b": p[:, 1], "p_tie": p[:, 2]})
    votes = pl.DataFrame({"id": ids[::-1], "label": ["a", "b", "tie"] * 10})
    found, before = rewards_of(table, votes, layer)
    np.testing.assert_allclose(found, rewards[::-1], atol=1e-9)
    rows = tie_rows(found, votes, before)
    assert len(rows.rewards) == 30
    with pytest.raises(DataError, match="no texts"):
        rewards_of(table, votes, layer.model_copy(update={"length": 0.1}))
