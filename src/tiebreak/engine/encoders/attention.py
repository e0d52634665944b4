"""Attention of an encoder, one sequence of a packed batch after the other.

Three plain passes, a product, powers of two, a product, are 2.2 times as fast on a CPU as the fused kernel of
`scaled_dot_product_attention` where heads are 32 wide: its products are too small to be worth their packing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

SCORES: Final = 4_000_000
"""Scores written out at a time; 8 MB of bfloat16, which a shared cache holds."""

BLOCK: Final = 256
"""Queries at a time where they see a window only."""

LEAST, MOST = 2.0**-60, 2.0**115
"""Sums of weights between which no weight was lost and none overflowed, with values up to 2^12."""


def split(x: Tensor, parts: int, heads: int) -> Tensor:
    """(rows, parts x heads x size) to (parts, heads, rows, size), a view."""
    return x.view(len(x), parts, heads, -1).permute(1, 2, 0, 3)


def firsts(x: Tensor, bounds: tuple[int, ...], dim: int) -> Tensor:
    """The first token of each sequence, from a dimension that counts the tokens."""
    return x.index_select(dim, torch.tensor(bounds[:-1]))


def within(
    query: Tensor, key: Tensor, value: Tensor, bounds: tuple[int, ...], *, reach: int | None = None, first: bool = False
) -> Tensor:
    """Attention within each sequence.

    Args:
        query: (heads, T, head size), or with `first` (heads, n, head size); times log2(e) and the factor of the scores.
        key: (heads, T, head size).
        value: (heads, T, head size).
        bounds: Where the n sequences begin and end.
        reach: How many positions away a token sees; None: all.
        first: Whether `query` holds the first token of each sequence and no others.

    Returns:
        (queries, heads x head size), contiguous.
    """
    heads, rows, size = query.shape
    out = query.new_empty(rows, heads, size)
    for i, (start, end) in enumerate(pairwise(bounds)):
        own = slice(i, i + 1) if first else slice(start, end)
        attend(query[:, own], key[:, start:end], value[:, start:end], out[own].transpose(0, 1), reach)
    return out.view(rows, heads * size)


def attend(query: Tensor, key: Tensor, value: Tensor, out: Tensor, reach: int | None = None) -> None:
    """Attention of one sequence, written into `out` (heads, queries, head size). Queries stand at the first positions.

    Queries are taken in blocks, so that memory does not grow with the square of the length.
    """
    heads, queries, keys = query.shape[0], query.shape[1], key.shape[1]
    if reach is not None and reach >= keys - 1:
        reach = None
    step = max(16, SCORES // (heads * keys)) if reach is None else BLOCK
    for start in range(0, queries, step):
        end = min(start + step, queries)
        if reach is None:
            low, high, seen = 0, keys, None
        else:
            low, high = max(0, start - reach), min(keys, end + reach)
            seen = _seen(end - start, high - low, start - low, reach, query.dtype)
        score = partial(torch.bmm, query[:, start:end], key[:, low:high].transpose(1, 2))
        soften(score, value[:, low:high], out[:, start:end], seen, own=start - low)


def soften(
    score: Callable[[], Tensor], value: Tensor, out: Tensor, seen: Tensor | None = None, *, own: int = 0
) -> None:
    """Softmax to base 2 of scores (heads, queries, keys) and its product with the values, written into `out`.

    The maximum is not subtracted: softmax does not depend on it, and finding it costs as much as all the rest. Whether
    a row came near the ends of the number range is seen in its sum afterwards. Then it is done again less each query's
    score with its own key (MiniLM's first layer needs it: scores to 2^146, but to 2^46 beside the own), and if that
    is not enough, with the maximum.

    Args:
        score: Gives the scores times log2(e); they are overwritten, and asked for again in the rare cases above.
        value: (heads, keys, head size).
        out: (heads, queries, head size), any strides.
        seen: One where a query sees a key, else zero, (queries, keys).
        own: Which key is the first query's own.
    """
    weights, total = _powers(score(), seen)
    if not _is_safe(total):
        scores = score()
        scores -= scores.diagonal(own, 1, 2).unsqueeze(-1).clone()
        weights, total = _powers(scores, seen)
    if not _is_safe(total):
        scores = score() if seen is None else score().masked_fill(seen == 0, -math.inf)
        weights = torch.softmax(scores.float() * math.log(2), -1).to(scores.dtype)
        total = torch.ones_like(total)
    torch.div(torch.bmm(weights, value), total, out=out)


def _powers(scores: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    weights = scores.exp2_()
    if seen is not None:
        weights *= seen
    return weights, weights.sum(-1, keepdim=True)


def _is_safe(total: Tensor) -> bool:
    least, most = torch.aminmax(total)
    return float(least) > LEAST and float(most) < MOST


@lru_cache(maxsize=64)
def _seen(queries: int, keys: int, first: int, reach: int, dtype: torch.dtype) -> Tensor:
    ahead = torch.arange(keys) - torch.arange(first, first + queries)[:, None]
    return (ahead.abs() <= reach).to(dtype)
