"""Attention of one sequence after the other: what runs on a CPU, and on a GPU that has no variable-length kernel."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tiebreak.engine.packed import Packed

BLOCK: Final = {"cpu": 256, "cuda": 1024}
"""Queries scored at a time where a mask or scores must be written out: bounds memory at block x keys x heads, and a
window's work at block + window keys. A GPU wants fewer, larger steps."""


def per_sequence(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed: Packed,
    *,
    scale: float,
    causal: bool,
    window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention within each sequence.

    Args:
        query: (heads, T, head size).
        key: (key heads, T, head size).
        value: (key heads, T, head size).
        packed: The micro-batch.
        scale: Factor of the scores.
        causal: Whether a token sees only what comes before it.
        window: A token sees others that are fewer than this many positions away; None: all.
        softcap: Scores s become softcap * tanh(s / softcap).
        dropout: Share of attention weights dropped.

    Returns:
        (T, heads, head size), contiguous.
    """
    if (groups := query.shape[0] // key.shape[0]) > 1:
        key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    outs = []
    for i, (start, end) in enumerate(zip(packed.bounds, packed.bounds[1:], strict=False)):
        keys, values = key[:, start:end], value[:, start:end]
        if packed.keys is not None and (prefix := packed.reused[i]):
            before = slice(packed.bounds[i - 1], packed.bounds[i - 1] + prefix)
            keys, values = torch.cat([key[:, before], keys], 1), torch.cat([value[:, before], values], 1)
        out = attend(
            query[:, start:end], keys, values, scale=scale, causal=causal, window=window, softcap=softcap,
            dropout=dropout,
        )  # fmt: skip
        outs.append(out.transpose(0, 1))
    return torch.cat(outs) if len(outs) > 1 else outs[0].contiguous()


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    causal: bool,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    """Attention of one sequence, (heads, queries, head size); the queries are the last of the keys' positions."""
    queries, keys = query.shape[1], key.shape[1]
    if window is not None and window >= keys:
        window = None
    if softcap is None and window is None and (not causal or queries == keys):
        return F.scaled_dot_product_attention(
            query[None], key[None], value[None], dropout_p=dropout, is_causal=causal and queries > 1, scale=scale
        )[0]
    outs = []
    block = BLOCK.get(query.device.type, BLOCK["cpu"])
    for start in range(0, queries, block):
        end = min(start + block, queries)
        first, last = keys - queries + start, keys - queries + end
        low = 0 if window is None else max(0, first - window + 1)
        high = last if causal else keys if window is None else min(keys, last + window - 1)
        seen = _seen(end - start, high - low, first - low, causal, window, query.device)
        outs.append(_block(query[:, start:end], key[:, low:high], value[:, low:high], seen, scale, softcap, dropout))
    return torch.cat(outs, 1) if len(outs) > 1 else outs[0]


@lru_cache(maxsize=64)
def _seen(queries: int, keys: int, first: int, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """Bool (queries, keys): whether query i, at position `first + i` of the keys, sees key j."""
    ahead = torch.arange(keys, device=device) - torch.arange(first, first + queries, device=device)[:, None]
    seen = ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    return seen if window is None else seen & (ahead.abs() < window)


def _block(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scale: float, softcap: float | None, dropout: float
) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=seen, dropout_p=dropout, scale=scale
        )[0]
    scores = torch.tanh(query * (scale / softcap) @ key.transpose(1, 2)) * softcap  # scaled first: fp16 ends at 65,504
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1, dtype=torch.float32).to(query.dtype)
    return F.dropout(weights, dropout) @ value
