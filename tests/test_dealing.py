"""One deal for everybody: proportion, whole groups, no dependence on order, and deals that are already out there."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import finetune_rows
from tiebreak import dealing
from tiebreak.errors import DataError
from tiebreak.prepare import folding as preparing
from tiebreak.train.finetune import folding

VOTES = finetune_rows.votes(80, seed=1)
PINNED = {
    "prepare": "a1985637e5f33799",
    "prepare, soft": "d45c1620d30f19e5",
    "finetune": "d342d313b5574429",
    "finetune, soft": "7ebd499bc7e29a13",
}


def draw(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def digest(parts: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(parts, np.int64).tobytes()).hexdigest()[:16]


rows = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 2])), min_size=12, max_size=60)


@given(rows, st.sampled_from([[0.5, 0.5], [0.7, 0.2, 0.1]]), st.booleans(), st.randoms(use_true_random=False))
def test_a_deal_keeps_groups_whole_and_knows_no_order_of_rows(drawn, shares, standardised, random) -> None:
    drawn = [*drawn, (0, 0), (1, 1), (2, 2)]
    groups = np.array([f"g{group}" for group, _ in drawn])
    mass = np.eye(3)[[label for _, label in drawn]]
    parts = dealing.deal(groups, mass, shares, draw=draw, standardised=standardised)
    assert all(len(set(parts[groups == name])) == 1 for name in groups)
    assert set(parts) <= set(range(len(shares)))
    turned = list(range(len(drawn)))
    random.shuffle(turned)
    again = dealing.deal(groups[turned], mass[turned], shares, draw=draw, standardised=standardised)
    assert (again == parts[turned]).all()


@pytest.mark.parametrize("standardised", [False, True])
def test_parts_get_their_share_of_each_label(standardised: bool) -> None:
    rng = np.random.default_rng(0)
    mass = np.eye(3)[rng.choice(3, 3000, p=[0.6, 0.35, 0.05])]
    parts = dealing.deal(rng.integers(0, 900, 3000).astype(str), mass, [0.5, 0.3, 0.2], draw=draw,
                         standardised=standardised)  # fmt: skip
    share = np.array([mass[parts == part].sum(axis=0) for part in range(3)]) / mass.sum(axis=0)
    assert np.abs(share - np.array([[0.5], [0.3], [0.2]])).max() < 0.02


def test_a_deal_by_hand() -> None:
    # Sizes 3, 2, 1: the largest to part 0, the next to the empty part 1, the last where the sum of squares grows least.
    groups = ["big", "big", "big", "mid", "mid", "small"]
    assert dealing.deal(groups, np.ones((6, 1)), [0.5, 0.5], draw=draw).tolist() == [0, 0, 0, 1, 1, 1]
    # A third as wanted, part 1 costs (2 * 2 + 1) / 0.25 = 20 and part 0 (2 * 3 + 1) / 0.75 = 9.3.
    assert dealing.deal(groups, np.ones((6, 1)), [0.75, 0.25], draw=draw).tolist() == [0, 0, 0, 1, 1, 0]


def test_more_parts_than_groups_are_refused() -> None:
    with pytest.raises(DataError, match="2 groups of rows for 3 parts"):
        dealing.deal(["a", "b", "b"], np.ones((3, 1)), [0.4, 0.3, 0.3], draw=draw)


def test_deals_that_are_out_there_stay_what_they_are() -> None:
    """Folds and splits are named in published tables, and runs that were stopped go on with them."""
    soft = np.random.default_rng(0).dirichlet([1, 1, 1], VOTES.height)
    taught = VOTES.with_columns(
        pl.lit(None, pl.String).alias("label"),
        *(pl.Series(name, soft[:, column]) for column, name in enumerate(("p_a", "p_b", "p_tie"))),
    )
    five, uneven = [0.2] * 5, [0.9, 0.1]
    assert digest(preparing.deal(VOTES, five, seed=7)) == PINNED["prepare"]
    assert digest(preparing.deal(taught, uneven, seed=0, stratify=False)) == PINNED["prepare, soft"]
    assert digest(folding.deal(VOTES, five, 7)) == PINNED["finetune"]
    assert digest(folding.deal(taught, uneven, 0)) == PINNED["finetune, soft"]
