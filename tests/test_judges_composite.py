"""Blends and cascades: exactly what their members say, however rows are cut, and mirrored to the last bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from composites_made import Plain, blend, cascade, table
from tiebreak import comparisons, pooling, predictions
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges.blend import mixing
from tiebreak.judges.blend.mixing import Mix, Slices
from tiebreak.judges.cascade import Settings
from tiebreak.judges.cascade.judge import Path as Way
from tiebreak.judges.cascade.judge import Stage
from tiebreak.judges.cascade.routing import NAMES, Route, features
from tiebreak.judges.runtime import Runtime

CHEAP, MIDDLE, DEAR = Plain(1.0, name="cheap"), Plain(3.0, name="middle"), Plain(7.0, name="dear")
POOLED = ((1.0,), (0.5, 0.5), (0.2, 0.3, 0.5))
LAST = ((1.0,), (0.0, 1.0), (0.0, 0.0, 1.0))
PRICES = (0.95, 0.8)
ROWS = table(200)


def p(frame: pl.DataFrame) -> np.ndarray:
    return predictions.probabilities(frame)


def entropy(q: np.ndarray) -> np.ndarray:
    found: np.ndarray = -(q * np.log(q)).sum(axis=1)
    return found


def test_each_row_gets_what_its_judge_would_say_of_it_alone() -> None:
    judge = cascade(CHEAP, MIDDLE, DEAR, prices=PRICES, weights=LAST)
    done = p(judge.predict(ROWS))
    said = [p(one.predict(ROWS)) for one in (CHEAP, MIDDLE, DEAR)]
    first = entropy(said[0]) > PRICES[0]
    second = first & (entropy(said[1]) > PRICES[1])
    assert 20 < first.sum() < 180
    assert 0 < second.sum() < first.sum()
    want = np.where(second[:, None], said[2], np.where(first[:, None], said[1], said[0]))
    np.testing.assert_array_equal(done, want)
    asked = judge.report["asked"]
    assert asked == {"cheap": 200, "middle": int(first.sum()), "dear": int(second.sum())}


def test_a_stage_that_pools_gives_the_pool_of_the_judges_asked() -> None:
    judge = cascade(CHEAP, MIDDLE, DEAR, prices=PRICES, weights=POOLED)
    done = p(judge.predict(ROWS))
    said = np.stack([p(one.predict(ROWS)) for one in (CHEAP, MIDDLE, DEAR)])
    two = pooling.logarithmic(said[:2], np.array(POOLED[1]))
    three = pooling.logarithmic(said, np.array(POOLED[2]))
    first = entropy(said[0]) > PRICES[0]
    second = first & (entropy(two) > PRICES[1])
    np.testing.assert_array_equal(done, np.where(second[:, None], three, np.where(first[:, None], two, said[0])))


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), seed=st.integers(0, 5))
def test_neither_chunks_nor_order_matter(cuts: list[int], seed: int) -> None:
    rows = table(60, seed)
    for judge in (
        cascade(CHEAP, MIDDLE, DEAR, prices=PRICES, weights=POOLED),
        blend(CHEAP, DEAR, mix=Mix(weights=(0.25, 0.75), space="probabilities")),
    ):
        whole = judge.predict(rows)
        edges = sorted({0, 60, *cuts})
        parts = [judge.predict(rows[start:stop]) for start, stop in pairwise(edges)]
        assert pl.concat(parts).equals(whole)
        order = np.random.default_rng(seed).permutation(60)
        assert judge.predict(rows[order]).equals(whole[order])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_swapped_rows_take_the_same_way_and_are_mirrored_to_the_last_bit(seed: int) -> None:
    rows = comparisons.validate(table(40, seed))
    sliced = Slices(by="agreement", weights=((0.25, 0.75), (0.5, 0.5)))
    for judge in (
        cascade(CHEAP, MIDDLE, DEAR, prices=PRICES, weights=POOLED),
        blend(CHEAP, DEAR, mix=Mix(weights=(0.3, 0.7), space="logits", slices=sliced)),
    ):
        there, back = judge.predict(rows), judge.predict(comparisons.swap(rows))
        np.testing.assert_array_equal(p(there), p(back)[:, [1, 0, 2]])


OPINION = arrays(np.float64, (5, 3), elements=st.floats(1e-9, 1.0)).map(lambda x: x / x.sum(axis=1, keepdims=True))


@given(first=OPINION, second=OPINION)
def test_what_a_route_looks_at_is_the_same_for_the_twin(first: np.ndarray, second: np.ndarray) -> None:
    mirror = [1, 0, 2]
    both = np.stack([first, second])
    for by in NAMES:
        for count in (1, 2):
            answer = both[count - 1]
            given_ = features(by, answer, both[:count])
            twin = features(by, answer[:, mirror], both[:count][:, :, mirror])
            for one, other in zip(given_, twin, strict=True):
                assert np.isfinite(one).all()
                np.testing.assert_array_equal(one, other)


def test_a_judge_without_a_weight_is_not_asked_and_a_single_one_is_given_as_it_is() -> None:
    idle, busy = Plain(1.0, name="idle"), Plain(2.0, gap=0.25, name="busy")
    judge = blend(idle, busy, mix=Mix(weights=(0.0, 1.0), space="probabilities"))
    done = judge.predict(ROWS)
    assert done.drop("id").equals(busy.predict(ROWS).drop("id"))
    assert idle.judged == []
    assert judge.report["asked"] == {"busy": 200}


def test_swap_gaps_are_known_or_said_to_be_unknown() -> None:
    exact, leaning = Plain(1.0, name="exact"), Plain(7.0, gap=0.25, name="leaning")
    pooled = blend(exact, leaning, mix=Mix(weights=(0.5, 0.5), space="logits")).predict(ROWS)
    assert pooled["swap_gap"].null_count() == 200
    last = cascade(exact, leaning, prices=(0.95,), weights=LAST[:2]).predict(ROWS)
    gone_on = entropy(p(exact.predict(ROWS))) > 0.95
    assert last["swap_gap"].to_list() == [0.25 if on else 0.0 for on in gone_on]


def test_slices_have_weights_of_their_own() -> None:
    slices = Slices(by="length", weights=((1.0, 0.0), (0.5, 0.5), (0.0, 1.0)))
    judge = blend(CHEAP, DEAR, mix=Mix(weights=(0.5, 0.5), space="probabilities", slices=slices))
    long = ROWS.with_columns(prompt=pl.col("prompt").list.eval(pl.lit("y" * 6000)))
    middle = ROWS.with_columns(prompt=pl.col("prompt").list.eval(pl.lit("y" * 2000)))
    np.testing.assert_array_equal(p(judge.predict(ROWS)), p(CHEAP.predict(ROWS)))
    np.testing.assert_array_equal(p(judge.predict(long)), p(DEAR.predict(long)))
    both = np.stack([p(CHEAP.predict(middle)), p(DEAR.predict(middle))])
    np.testing.assert_array_equal(p(judge.predict(middle)), pooling.linear(both))
    turns = comparisons.validate(pl.concat([ROWS.head(1), ROWS.head(1).with_columns(
        pl.col(name).list.concat(pl.col(name)) for name in comparisons.TEXTS)]))  # fmt: skip
    assert mixing.slice_of("turns", both, turns).tolist() == [0, 1]
    with pytest.raises(DataError, match="need the texts"):
        mixing.slice_of("turns", both, ROWS.select("id"))


def test_an_empty_table_is_judged() -> None:
    assert cascade(CHEAP, DEAR, prices=(0.9,), weights=POOLED[:2]).predict(ROWS.clear()).height == 0
    assert blend(CHEAP, DEAR, mix=Mix(weights=(0.5, 0.5), space="logits")).predict(ROWS.clear()).height == 0


def test_rows_within_rounding_of_a_price_are_counted() -> None:
    first = p(CHEAP.predict(ROWS.head(1)))
    on_the_edge = float(features("entropy", first, first[None])[0][0])
    judge = cascade(CHEAP, DEAR, prices=(on_the_edge,), weights=LAST[:2])
    judge.predict(ROWS.head(1))
    assert judge.report["near"] == 1
    assert judge.report["asked"] == {"cheap": 1}


def test_choices_of_a_run_that_no_member_knows_are_refused_in_words() -> None:
    judge = cascade(CHEAP, DEAR, prices=(0.9,), weights=LAST[:2])
    judge.run_with(Runtime())
    with pytest.raises(UsageError, match="no judge among cheap, dear has such a choice: --devices"):
        judge.run_with(Runtime(devices="cpu"))
    with pytest.raises(UsageError, match="depends on the others"):
        judge.run_with(Runtime(swap="uncertain=0.4"))


def test_settings_that_do_not_hold_together_are_refused() -> None:
    judge = cascade(CHEAP, DEAR, prices=(0.9,), weights=LAST[:2])
    good = judge.manifest.settings
    stages = good["stages"]
    assert isinstance(stages, list)
    for change, words in (
        ({"stages": stages[:1]}, "1 stages for 2 members"),
        ({"stages": stages[::-1]}, "parts of 1"),
        ({"stages": [stages[0], {**stages[1], "weights": [0.5, 0.6]}]}, "parts of 1"),  # type: ignore[dict-item]
        ({"stages": [{**stages[0], "route": None}, stages[1]]}, "unless it is the last"),  # type: ignore[dict-item]
        ({"members": []}, "members"),
        ({"space": "ranks"}, "space"),
    ):
        manifest = judge.manifest.model_copy(update={"settings": {**good, **change}})
        with pytest.raises(BundleError, match=words):
            Settings.of(manifest)
    with pytest.raises(ValueError, match="with sum 1"):
        Mix(weights=(0.5, 0.6), space="logits")
    with pytest.raises(ValueError, match="1 slices by turns, not 2"):
        Mix(weights=(0.5, 0.5), space="logits", slices=Slices(by="turns", weights=((0.5, 0.5),)))


def test_a_way_is_the_same_for_rows_apart_and_together() -> None:
    rng = np.random.default_rng(0)
    opinions = predictions.softmax(rng.normal(size=(100, 3)))
    second = predictions.softmax(rng.normal(size=(100, 3)))
    route = Route(by="gain", bias=0.1, weights=(0.1, -0.2, 0.05, 0.01, 0.02, -0.03), price=0.15)
    stages = (Stage(weights=(1.0,), route=route), Stage(weights=(0.4, 0.6), route=None))

    def walk(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        way = Way(stages, "logits", len(one))
        way.step(one)
        way.step(other[way.open])
        return way.answers, way.stage

    answers, stage = walk(opinions, second)
    assert 0 < stage.sum() < 100
    for row in range(100):
        alone, at = walk(opinions[row : row + 1], second[row : row + 1])
        np.testing.assert_array_equal(alone[0], answers[row])
        assert at[0] == stage[row]
