"""The policies: exact cases worked by hand, and what holds for every row."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.render.templates import Limits
from tiebreak.render.truncation import POLICIES, Row, level

ONCE = (1, 1, 1)
TWICE = (2, 1, 1)


def cut(
    policy: str, texts: list[tuple[int, ...]], budget: int, *, mark: int = 0, cost: tuple[int, ...] = ONCE
) -> object:
    return POLICIES[policy](Row(texts, [mark] * len(texts), budget, cost))


@pytest.mark.parametrize(
    ("policy", "texts", "budget", "kept"),
    [
        # right: in order, the last answer goes first
        ("right", [(10, 50, 50)], 80, [[10, 50, 20]]),
        ("right", [(10, 50, 50)], 40, [[10, 30, 0]]),
        ("right", [(10, 50, 50)], 5, [[5, 0, 0]]),
        ("right", [(5, 5, 5), (5, 5, 5), (5, 5, 5)], 22, [[5, 5, 5], [5, 2, 0], None]),
        ("right", [(5, 5, 5), (5, 5, 5)], 15, [[5, 5, 5], None]),
        ("right", [(5, 5, 5), (0, 0, 0)], 15, [[5, 5, 5], [0, 0, 0]]),
        # left: from the end, the prompt goes first
        ("left", [(10, 50, 50)], 80, [[0, 30, 50]]),
        ("left", [(5, 5, 5), (5, 5, 5), (5, 5, 5)], 22, [None, [0, 2, 5], [5, 5, 5]]),
        # middle: one length for all
        ("middle", [(10, 50, 90)], 100, [[10, 45, 45]]),
        ("middle", [(40, 50, 90)], 100, [[33, 33, 33]]),
        # fair: the prompt to a quarter, then the longer answer to the length of the other, then both
        ("fair", [(500, 300, 800)], 1000, [[250, 300, 450]]),
        ("fair", [(500, 600, 800)], 1000, [[250, 375, 375]]),
        ("fair", [(500, 100, 500)], 1000, [[400, 100, 500]]),
        ("fair", [(100, 300, 700)], 1000, [[100, 300, 600]]),
        ("fair", [(2000, 10, 10)], 1000, [[980, 10, 10]]),
        ("fair", [(0, 100, 5), (0, 10, 5)], 40, [[0, 20, 5], [0, 10, 5]]),
        # rounds: 20 / 40 / 40 of what is left, a rest under 80 is not used
        ("rounds", [(100, 100, 100), (100, 100, 100)], 400, [[100, 100, 100], [20, 40, 40]]),
        ("rounds", [(100, 100, 100), (100, 100, 100)], 379, [[100, 100, 100], None]),
        ("rounds", [(100, 100, 100), (100, 100, 100)], 380, [[100, 100, 100], [16, 32, 32]]),
        ("rounds", [(100, 100, 100), (5, 100, 100)], 400, [[100, 100, 100], [5, 47, 47]]),
        ("rounds", [(100, 100, 100)], 50, [[10, 20, 20]]),
        ("rounds", [(10, 10, 10), (900, 9, 9), (1, 1, 1)], 100, [[10, 10, 10], None, None]),
        # proportional: the same share of each, but at least 100 tokens
        ("proportional", [(200, 400, 600)], 600, [[100, 200, 300]]),
        ("proportional", [(100, 400, 800)], 700, [[100, 200, 400]]),
        ("proportional", [(20, 1000, 1000)], 1020, [[20, 500, 500]]),
        ("proportional", [(300, 300, 300)], 30, [[10, 10, 10]]),
    ],
)  # fmt: skip
def test_cases_worked_by_hand(policy: str, texts: list[tuple[int, ...]], budget: int, kept: object) -> None:
    assert cut(policy, texts, budget) == kept


def test_a_prompt_that_stands_twice_is_paid_twice() -> None:
    assert cut("right", [(10, 50, 50)], 60, cost=TWICE) == [[10, 20, 20]]
    assert cut("right", [(10, 5, 50)], 60, cost=TWICE) == [[10, 5, 35]]
    assert cut("left", [(10, 20, 30)], 60, cost=TWICE) == [[5, 20, 30]]
    assert cut("middle", [(100, 100, 100)], 100, cost=TWICE) == [[25, 25, 25]]
    assert cut("fair", [(100, 100, 100)], 100, cost=TWICE) == [[12, 38, 38]]
    assert cut("rounds", [(100, 100, 100)], 120, cost=TWICE) == [[20, 40, 40]]


def test_a_round_that_is_left_out_takes_its_marks_with_it() -> None:
    assert cut("right", [(5, 5, 5)] * 3, 40, mark=10) == [[5, 5, 5], [5, 0, 0], None]
    assert cut("left", [(5, 5, 5)] * 3, 40, mark=10) == [None, [0, 0, 5], [5, 5, 5]]
    assert cut("middle", [(9, 9, 9)] * 6, 40, mark=10) == [[3, 3, 3], None, None, None, None, [3, 3, 3]]
    assert cut("fair", [(9, 9, 9)] * 6, 40, mark=10) == [[2, 3, 3], [2, 3, 3], None, None, None, None]


def test_where_only_the_marks_of_the_first_round_fit_it_is_the_one_that_stays() -> None:
    row = Row([(5, 5, 5), (5, 5, 5)], [10, 30], 20, ONCE)
    assert POLICIES["left"](row) == [[0, 5, 5], None]


@given(st.data())
@settings(deadline=None)
def test_level_gives_the_highest_common_level(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 4))
    small = st.integers(0, 12)
    wanted, cost, shares = (
        data.draw(st.lists(kind, min_size=n, max_size=n)) for kind in (small, st.integers(1, 2), st.integers(1, 3))
    )
    budget = data.draw(st.integers(0, 40))

    def at(height: float) -> list[int]:
        return [min(w, int(height * s + 1e-9)) for w, s in zip(wanted, shares, strict=True)]

    def spent(kept: list[int]) -> int:
        return sum(k * c for k, c in zip(kept, cost, strict=True))

    # The exact level without rounding: the largest with sum of cost * min(wanted, level * share) <= budget.
    heights = sorted({i / d for i, d in itertools.product(range(300), (1, 2, 3, 4, 5, 6))})
    bare = [
        h for h in heights
        if sum(c * min(w, h * s) for w, c, s in zip(wanted, cost, shares, strict=True)) <= budget + 1e-9
    ]  # fmt: skip
    kept = level(wanted, budget, cost, shares)
    assert spent(kept) <= budget
    assert all(k >= a for k, a in zip(kept, at(bare[-1]), strict=True))
    if spent(wanted) <= budget:
        assert kept == wanted
    else:  # what rounding leaves is less than one token for each
        assert budget - spent(kept) < sum(cost)


ROUNDS = st.lists(st.tuples(*[st.integers(0, 400)] * 3), min_size=1, max_size=6)


@given(
    st.sampled_from(sorted(POLICIES)), ROUNDS, st.integers(0, 900), st.integers(0, 30), st.sampled_from([ONCE, TWICE])
)
@settings(max_examples=500, deadline=None)
def test_what_holds_for_every_row(
    policy: str, texts: list[tuple[int, ...]], budget: int, mark: int, cost: tuple[int, ...]
) -> None:
    budget = max(budget, mark)  # the renderer promises that the marks of the first round fit
    kept = cut(policy, texts, budget, mark=mark, cost=cost)
    assert isinstance(kept, list)
    assert len(kept) == len(texts)
    assert any(given is not None for given in kept)
    used = 0
    for wanted, given_ in zip(texts, kept, strict=True):
        if given_ is not None:
            assert all(0 <= g <= w for g, w in zip(given_, wanted, strict=True))
            used += mark + sum(g * c for g, c in zip(given_, cost, strict=True))
    assert used <= budget
    mirrored = cut(policy, [(p, b, a) for p, a, b in texts], budget, mark=mark, cost=cost)
    assert isinstance(mirrored, list)
    for one, other in zip(kept, mirrored, strict=True):  # both orders share the prompt; most policies mirror whole
        assert (one is None) == (other is None)
        if one is not None:
            assert one[0] == other[0]
            if policy not in {"right", "left"} or cost == TWICE:
                assert one == [other[0], other[2], other[1]]


@given(st.sampled_from(sorted(POLICIES)), st.tuples(*[st.integers(0, 400)] * 3), st.integers(0, 900))
@settings(max_examples=300, deadline=None)
def test_a_single_round_uses_its_budget(policy: str, texts: tuple[int, int, int], budget: int) -> None:
    """Nothing is cut that has room: at most one token a text is lost to rounding."""
    kept = cut(policy, [texts], budget)
    assert isinstance(kept, list)
    used = sum(kept[0])
    assert used >= min(sum(texts), budget) - 3
    if sum(texts) <= budget and policy != "proportional":
        assert kept == [list(texts)]


def test_limits_are_data() -> None:
    limits = Limits(prompt_share=0.5, round_shares=(2, 1, 1), least_round=10, least_text=0)
    assert POLICIES["fair"](Row([(90, 90, 90)], [0], 100, ONCE, limits)) == [[50, 25, 25]]
    assert POLICIES["rounds"](Row([(90, 90, 90)], [0], 100, ONCE, limits)) == [[50, 25, 25]]
    assert POLICIES["proportional"](Row([(10, 20, 170)], [0], 100, ONCE, limits)) == [[5, 10, 85]]
