"""Packing and the filling of micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_rows import pairs, sequences
from tiebreak.engine import microbatches, pack
from tiebreak.engine.prefix import common_prefix, units
from tiebreak.errors import UsageError
from tiebreak.render import Sequences


def test_sequences_lie_end_to_end_and_positions_restart() -> None:
    packed = pack([np.array([7, 8, 9]), np.array([5]), np.array([6, 6])])
    assert packed.input_ids.tolist() == [7, 8, 9, 5, 6, 6]
    assert packed.position_ids.tolist() == [0, 1, 2, 0, 0, 1]
    assert packed.cu_seqlens.tolist() == [0, 3, 4, 6]
    assert packed.bounds == (0, 3, 4, 6)
    assert (packed.max_seqlen, packed.tokens, len(packed), packed.keys) == (3, 6, 3, None)


def test_a_reused_prefix_is_left_out_and_its_keys_are_found() -> None:
    packed = pack([np.array([7, 8, 9]), np.array([7, 8, 4]), np.array([3])], reuse=[0, 2, 0])
    assert packed.input_ids.tolist() == [7, 8, 9, 4, 3]
    assert packed.position_ids.tolist() == [0, 1, 2, 2, 0]
    assert packed.keys is not None
    assert packed.keys.index.tolist() == [0, 1, 2, 0, 1, 3, 4]
    assert packed.keys.cu_seqlens.tolist() == [0, 3, 6, 7]
    assert packed.keys.max_seqlen == 3


def test_ragged_sequences_and_lists_pack_alike() -> None:
    rows = sequences(3, 1, 5)
    assert pack(Sequences.of(rows)).input_ids.tolist() == pack(rows).input_ids.tolist()


def test_a_copy_holds_the_same() -> None:
    packed = pack([np.array([7, 8]), np.array([7, 9])], reuse=[0, 1])
    copy = packed.to("meta")
    assert copy.keys is not None
    assert {t.device.type for t in (copy.input_ids, copy.position_ids, copy.cu_seqlens, copy.keys.index)} == {"meta"}
    assert (copy.bounds, copy.reused, copy.max_seqlen) == (packed.bounds, packed.reused, packed.max_seqlen)


@pytest.mark.parametrize("rows", [[], [np.array([1]), np.array([], dtype=int)]])
def test_a_sequence_without_tokens_is_refused(rows: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match="no tokens"):
        pack(rows)


@pytest.mark.parametrize("reuse", [[1, 0, 0], [0, 4, 0], [0, 3, 0], [0, 1, 1], [0, -1, 0]])
def test_reuse_that_cannot_be_is_refused(reuse: list[int]) -> None:
    with pytest.raises(UsageError, match="cannot reuse"):
        pack(sequences(5, 3, 2), reuse=reuse)


LENGTHS = st.lists(st.integers(1, 300), max_size=120)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 400), st.integers(1, 200))
def test_microbatches_hold_every_index_once_and_the_budget(lengths: list[int], budget: int, window: int) -> None:
    batches = microbatches(np.array(lengths, dtype=np.int64), budget, window=window)
    assert sorted(int(i) for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= budget
        assert max(batch) - min(batch) < window


@settings(deadline=None)
@given(LENGTHS.filter(bool), st.integers(300, 900))
def test_microbatches_are_full(lengths: list[int], budget: int) -> None:
    """Two batches that would fit in one never stand side by side, so all but one are over half full."""
    batches = microbatches(np.array(lengths), budget, window=1000)
    fill = sorted(sum(lengths[i] for i in batch) for batch in batches)
    assert all(tokens * 2 > budget for tokens in fill[1:])
    assert len(batches) <= 2 * -(-sum(lengths) // budget)


def test_real_lengths_fill_nearly_everything() -> None:
    lengths = np.random.default_rng(0).lognormal(6.0, 0.7, size=4000).astype(int).clip(20, 2048)
    batches = microbatches(lengths, 8192)
    assert lengths.sum() / (len(batches) * 8192) > 0.98


@pytest.mark.parametrize(("budget", "window"), [(0, 8), (8, 0)])
def test_no_budget_is_refused(budget: int, window: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        microbatches(np.array([3]), budget, window=window)


def test_pairs_share_what_is_common_and_keep_a_token_of_their_own() -> None:
    assert common_prefix(np.array([1, 2, 3]), np.array([1, 2, 4, 5])) == 2
    assert common_prefix(np.array([1, 2]), np.array([1, 2, 4])) == 2
    assert common_prefix(np.array([1, 2, 3]), np.array([1, 2, 3])) == 2
    assert common_prefix(np.array([1, 2, 3]), np.array([9])) == 0


def test_units_hold_every_sequence_once() -> None:
    rows, index = pairs(4, prefix=40)
    rows += sequences(9, 9)
    found = units(rows, np.concatenate([index, [[8, 9]]]))
    assert [unit.members for unit in found] == [(0, 1), (2, 3), (4, 5), (6, 7), (8,), (9,)]
    assert [unit.shared for unit in found] == [40, 40, 40, 40, 0, 0]
    assert sum(unit.tokens + unit.shared for unit in found) == sum(len(row) for row in rows)


def test_a_short_prefix_is_not_shared() -> None:
    rows, index = pairs(2, prefix=8)
    assert all(unit.shared == 0 for unit in units(rows, index))


@pytest.mark.parametrize("index", [[[0, 1], [1, 2]], [[0, 0]], [[0, 9]], [[-1, 0]]])
def test_pairs_that_cannot_be_are_refused(index: list[list[int]]) -> None:
    with pytest.raises(UsageError, match="pair"):
        units(sequences(50, 50, 50), np.array(index))
