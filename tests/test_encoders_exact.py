"""Fast encoders against transformers' own padded, eager computation in float32."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import tiny
from transformers import PreTrainedModel

from tiebreak.engine import Engine, Options, pack
from tiebreak.engine.encoders import attention as attention_module
from tiebreak.engine.encoders import fast_path, speed_up_encoder

LENGTHS = (1, 5, 40, 17, 130, 64, 300)
BFLOAT16 = 0.03
"""Of the largest state: what 8 bits of mantissa cost in three layers."""


def rows(lengths: tuple[int, ...] | list[int] = LENGTHS) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(6, 400, size=n) for i, n in enumerate(lengths)]


def padded(sequences: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(sequences):
        ids[i, : len(row)], mask[i, : len(row)] = torch.from_numpy(row), 1
    return ids, mask


def expected(backbone: PreTrainedModel, sequences: list[np.ndarray]) -> list[torch.Tensor]:
    """States of each sequence, from one padded batch."""
    ids, mask = padded(sequences)
    with torch.inference_mode():
        states = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    return [states[i, : len(row)] for i, row in enumerate(sequences)]


def sped_up(family: str, precision: str = "fp32", **changes: object) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A backbone as transformers runs it, and the same one made fast."""
    plain, fast = (tiny.model(family, **changes).base_model for _ in range(2))
    report = speed_up_encoder(fast, precision=precision)  # type: ignore[arg-type]
    assert report["path"].startswith("packed")
    assert report["precision"] == precision
    return plain, fast


def states(fast: PreTrainedModel, sequences: list[np.ndarray], **options: bool) -> torch.Tensor:
    twin = fast_path(fast)
    assert twin is not None
    with torch.inference_mode():
        return twin.states(pack(sequences), **options)


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_packed_is_padded_and_eager(family: str) -> None:
    plain, fast = sped_up(family)
    want = expected(plain, rows())
    torch.testing.assert_close(states(fast, rows()), torch.cat(want), atol=1e-5, rtol=1e-5)
    first = torch.stack([one[0] for one in want])
    torch.testing.assert_close(states(fast, rows(), first=True), first, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_bfloat16_is_near(family: str) -> None:
    plain, fast = sped_up(family, "bf16")
    want = torch.cat(expected(plain, rows()))
    got = states(fast, rows())
    assert got.dtype == torch.float32
    difference = (got - want).abs()
    assert 0 < difference.max() < BFLOAT16 * want.abs().max()
    assert difference.mean() < BFLOAT16 / 10 * want.abs().max()


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_the_forward_of_transformers_still_takes_padded_batches(family: str) -> None:
    plain, fast = sped_up(family)
    ids, mask = padded(rows())
    with torch.inference_mode():
        want, got = (model(input_ids=ids, attention_mask=mask) for model in (plain, fast))
    assert type(got) is type(want)
    kept = mask.bool()
    torch.testing.assert_close(got.last_hidden_state[kept], want.last_hidden_state[kept], atol=1e-5, rtol=1e-5)
    assert not got.last_hidden_state[~kept].any()
    if family == "bert":
        torch.testing.assert_close(got.pooler_output, want.pooler_output, atol=1e-5, rtol=1e-5)


def test_a_hole_in_the_mask_and_token_types_count() -> None:
    plain, fast = sped_up("bert")
    ids, mask = padded(rows((9, 30)))
    mask[1, 3:6] = 0
    types = (torch.arange(ids.shape[1]) > 4).long().expand_as(ids)
    with torch.inference_mode():
        want, got = (
            model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state for model in (plain, fast)
        )
        other = fast(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(got[mask.bool()], want[mask.bool()], atol=1e-5, rtol=1e-5)
    assert (other - got).abs().max() > 1e-2


@cache
def made_once(family: str) -> PreTrainedModel:
    return sped_up(family)[1]


@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_any_order_and_packing_gives_the_same(lengths: list[int], seed: int) -> None:
    sequences = rows(lengths)
    order = np.random.default_rng(seed).permutation(len(sequences))
    for family in tiny.ENCODERS:
        fast = made_once(family)
        alone = [states(fast, [row], first=True)[0] for row in sequences]
        together = states(fast, [sequences[i] for i in order], first=True)
        torch.testing.assert_close(together, torch.stack([alone[i] for i in order]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [
    {"share_att_key": False}, {"pos_att_type": ["c2p"]}, {"pos_att_type": ["p2c"]}, {"position_buckets": -1},
    {"position_buckets": 4}, {"position_biased_input": True, "type_vocab_size": 2}, {"norm_rel_ebd": "none"},
])  # fmt: skip
def test_every_kind_of_deberta(changes: dict[str, object]) -> None:
    plain, fast = sped_up("deberta-v2", **changes)
    torch.testing.assert_close(states(fast, rows()), torch.cat(expected(plain, rows())), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [
    {"attention_bias": True, "mlp_bias": True, "norm_bias": True}, {"local_attention": 2}, {"local_attention": 598},
    {"local_attention": 600},
])  # fmt: skip
def test_every_kind_of_modernbert(changes: dict[str, object]) -> None:
    plain, fast = sped_up("modernbert", **changes)
    torch.testing.assert_close(states(fast, rows()), torch.cat(expected(plain, rows())), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_long_sequences_are_taken_in_blocks(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = sped_up(family)
    want = torch.cat(expected(plain, rows()))
    monkeypatch.setattr(attention_module, "SCORES", 4 * 4 * 300 * 30)
    monkeypatch.setattr("tiebreak.engine.encoders.deberta.SCORES", 4 * 4 * 300 * 30)
    monkeypatch.setattr(attention_module, "BLOCK", 48)
    torch.testing.assert_close(states(fast, rows()), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_the_engine_uses_it(family: str) -> None:
    model = tiny.model(family)
    with torch.inference_mode():
        ids, mask = padded(rows())
        want = model(input_ids=ids, attention_mask=mask).logits.numpy()
    engine = Engine(model, Options(precision="fp32", streams=2, max_tokens=200))
    assert fast_path(engine.pooled.backbone) is not None
    np.testing.assert_allclose(engine.logits(rows()), want, atol=1e-5)
    assert engine.fallbacks == []


@pytest.mark.parametrize("shift", [0.0, 90.0, 300.0, -300.0])
@pytest.mark.parametrize("reach", [None, 7])
def test_scores_out_of_range_lose_nothing(shift: float, reach: int | None) -> None:
    """2^300 is no float32: the sums show it, and the softmax is done another way."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 50, 8, generator=generator) for _ in range(3))
    query[..., 0], key[..., 0] = 1.0, shift  # the same added to every score
    key[1, 20, 0] += 280.0  # and one that stands out, far beyond each query's own
    out = torch.empty(2, 50, 8)
    attention_module.attend(query, key, value, out, reach)
    scores = query.double() @ key.double().transpose(1, 2) * np.log(2)
    if reach is not None:
        place = torch.arange(50)
        scores = scores.masked_fill((place - place[:, None]).abs() > reach, -torch.inf)
    want = F.softmax(scores, -1) @ value.double()
    torch.testing.assert_close(out, want.float(), atol=1e-4, rtol=1e-4)
