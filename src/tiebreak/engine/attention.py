"""Attention within each sequence of a packed batch, through transformers' own attention interface.

`transformers` lets every model name its attention function in its configuration. `NAME` is ours: with a `Packed` among
the keyword arguments it attends within each sequence, without one it is the model's own eager attention, so that a
model that was once packed still takes padded batches.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from tiebreak.engine.packed import Packed
from tiebreak.engine.varlen import Need, attend

NAME: Final = "tiebreak_packed"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packed: Packed | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function in the form that transformers calls.

    Args:
        module: The attention layer that calls.
        query: (1, heads, T, head size), positions already rotated in.
        key: (1, key heads, T, head size).
        value: (1, key heads, T, head size).
        attention_mask: Ignored when packed.
        dropout: Share of attention weights dropped.
        scaling: Factor of the scores; None: one over the root of the head size.
        packed: The micro-batch that the tokens belong to.
        kwargs: `sliding_window`, `softcap` and `is_causal` count; the rest is the model's own.

    Returns:
        (1, T, heads, head size), and no weights.
    """
    if packed is None:
        eager = sys.modules[type(module).__module__].eager_attention_forward
        result: tuple[Tensor, Tensor | None] = eager(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    causal = kwargs.get("is_causal")
    need = Need(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=bool(getattr(module, "is_causal", True) if causal is None else causal),
        window=kwargs.get("sliding_window"),
        softcap=kwargs.get("softcap"),
        dropout=dropout,
    )
    out = attend(query[0], key[0], value[0], packed, need)
    return out.unsqueeze(0), None


def install(backbone: nn.Module) -> None:
    """Have every layer of a model attend through `packed_attention`."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    for module in backbone.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", NAME) != NAME:
            config._attn_implementation = NAME


def no_mask(device: torch.device) -> Tensor:
    """A mask in four dimensions, which transformers hands through as it is: no T x T mask is ever built."""
    return torch.zeros(1, 1, 1, 1, device=device)
