"""Drawing the next token from logits, such that rounding cannot change the draw unnoticed.

The same row in another batch has logits that differ in their last bits, and a draw that falls near a boundary would
give another token, hence another text. So a draw says whether it is sure: whether every set of logits within `SLACK`
of these would have given this token. Where it is not, the caller computes the row alone, whose logits are the same in
every run, and draws from those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

LOGIT_SLACK: Final = 1e-3
"""Two logits nearer to each other than this may change places in another batch; fp32 differs by some 1e-5."""

MASS_SLACK: Final = 3e-5
"""Likewise of probabilities that are added up."""

_LIKELIEST: Final = 1024
"""Tokens among which a nucleus mostly lies; the whole vocabulary is sorted only where it does not."""


def uniforms(seed: int, sample: int, words: Sequence[tuple[str, str]], count: int) -> np.ndarray:
    """The random numbers of one text, float64 (count,): of its seed, its sample and its conversation, nothing else."""
    document = json.dumps([seed, sample, [list(turn) for turn in words]])
    key = hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], dtype=np.uint64))).random(count)


def draw(
    logits: torch.Tensor, chances: torch.Tensor, temperature: float, top_p: float, *, alone: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row.

    Args:
        logits: float (rows, vocabulary).
        chances: float64 (rows,): uniform in [0, 1).
        temperature: 0 takes the likeliest token.
        top_p: Nucleus (Holtzman et al., arXiv 1904.09751): the smallest set of likeliest tokens with this much mass.
        alone: These logits are final; every draw is sure.

    Returns:
        Tokens, int64 (rows,), and whether each is sure, bool (rows,).
    """
    logits = logits.double()
    if temperature == 0:
        best = logits.topk(2, dim=-1)
        sure = best.values[:, 0] - best.values[:, 1] > LOGIT_SLACK
        tokens = logits.argmax(dim=-1)  # of equals the first, which topk does not promise
        return tokens, torch.ones_like(sure) if alone else sure
    masses, slack = _nucleus(torch.softmax(logits / temperature, dim=-1), top_p)
    edges = masses.cumsum(dim=-1)
    wanted = chances[:, None] * edges[:, -1:]
    tokens = torch.searchsorted(edges, wanted, right=True).clamp_(max=logits.shape[-1] - 1)
    upper = edges.gather(1, tokens)
    lower = upper - masses.gather(1, tokens)
    slack = slack + MASS_SLACK * max(1.0, 1.0 / temperature)
    sure = ((wanted - lower) > slack) & ((upper - wanted) > slack)
    return tokens[:, 0], torch.ones_like(sure[:, 0]) if alone else sure[:, 0]


def _nucleus(masses: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Masses with those outside the nucleus at zero, and by how much another rounding may move any sum of them."""
    none = torch.zeros_like(masses[:, :1])
    if top_p >= 1:
        return masses, none
    falling = masses.topk(min(_LIKELIEST, masses.shape[-1]), dim=-1).values
    if (falling.sum(dim=-1) <= top_p + MASS_SLACK).any():
        falling = masses.sort(dim=-1, descending=True).values
    before = falling.cumsum(dim=-1) - falling
    size = (before < top_p).sum(dim=-1, keepdim=True)
    last = falling.gather(1, size - 1)
    after = falling.gather(1, size.clamp(max=falling.shape[-1] - 1))
    short = before.gather(1, size - 1)
    apart = (last - after) > MASS_SLACK * last
    clear = ((short + last - top_p) > MASS_SLACK) & ((top_p - short) > MASS_SLACK) & apart
    return masses.where(masses >= last, none), torch.where(clear, none, 2 * last)
