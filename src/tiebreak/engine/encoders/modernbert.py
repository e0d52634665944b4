"""ModernBERT: rotated positions, windows in most layers, gated feed-forward parts, normalised before each part."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tiebreak.engine.encoders.attention import firsts, split, within
from tiebreak.engine.encoders.linear import ACTIVATIONS, FusedLinear
from tiebreak.engine.encoders.norm import Norm
from tiebreak.engine.packed import Packed


class ModernBert:
    """The layers of a `ModernBertModel`, laid out for one CPU and one precision.

    Args:
        model: The model; its weights are copied.
        dtype: What to compute in.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.words = model.embeddings.tok_embeddings.weight.detach().to(dtype)
        self.norm, self.last_norm = Norm(model.embeddings.norm, dtype), Norm(model.final_norm, dtype)
        self.layers = [Layer(layer, dtype) for layer in model.layers]
        self.rotary, self.kinds = model.rotary_emb, sorted(set(model.config.layer_types))

    @staticmethod
    def refuses(model: Any) -> str:
        """Why this model has no fast path; empty: it has one."""
        act = model.config.hidden_activation
        return "" if act in ACTIVATIONS else f"activation {act!r}"

    def states(self, packed: Packed, types: Tensor | None, first: bool) -> Tensor:
        """Last hidden states, (T, hidden), or of the first tokens, (n, hidden)."""
        x = self.norm(F.embedding(packed.input_ids, self.words))
        angles = packed.position_ids.unsqueeze(0)
        turns = {kind: self.rotary(self.words.new_empty(0).float(), angles, kind) for kind in self.kinds}
        for layer in self.layers[:-1]:
            x = layer(x, packed.bounds, turns)
        return self.last_norm(self.layers[-1](x, packed.bounds, turns, first=first))


class Layer:
    """One layer: attention and the gated feed-forward part, each normalised before and added to its input."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        own = layer.attn
        self.size, self.heads = own.head_dim, own.config.num_attention_heads
        self.kind = layer.attention_type
        # transformers counts the token itself: a window of w + 1 sees w positions away
        self.reach = None if own.sliding_window is None else own.sliding_window - 1
        self.act = ACTIVATIONS[own.config.hidden_activation]
        self.norm, self.mlp_norm = Norm(layer.attn_norm, dtype), Norm(layer.mlp_norm, dtype)
        self.mixed, self.after = FusedLinear.of(own.Wqkv, dtype), FusedLinear.of(own.Wo, dtype)
        up, gate = layer.mlp.Wi.weight.chunk(2)
        up_bias, gate_bias = (None, None) if layer.mlp.Wi.bias is None else layer.mlp.Wi.bias.chunk(2)
        self.up, self.gate = FusedLinear(up, up_bias, dtype), FusedLinear(gate, gate_bias, dtype)
        self.narrow = FusedLinear.of(layer.mlp.Wo, dtype)

    def __call__(
        self, x: Tensor, bounds: tuple[int, ...], turns: dict[str, tuple[Tensor, Tensor]], *, first: bool = False
    ) -> Tensor:
        """(T, hidden) to (T, hidden), or with `first` to (n, hidden)."""
        query, key, value = split(self.mixed(self.norm(x)), 3, self.heads)
        cosine, sine = turns[self.kind]
        factor = self.size**-0.5 * math.log2(math.e)
        query, key = turned(query, cosine * factor, sine * factor), turned(key, cosine, sine)
        if first:
            query, x = firsts(query, bounds, 1), firsts(x, bounds, 0)
        x = self.after.plus(within(query, key, value, bounds, reach=self.reach, first=first), x)
        normed = self.mlp_norm(x)
        return self.narrow.plus(self.up(normed, self.act).mul_(self.gate(normed)), x)


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate positions into (heads, T, size), as in RoFormer (Su et al., arXiv:2104.09864), halves paired.

    Args:
        x: Queries or keys.
        cosine: float32 (1, T, size).
        sine: float32 (1, T, size).
    """
    half = x.shape[-1] // 2
    left, right = x[..., :half].float(), x[..., half:].float()
    out = torch.empty(x.shape, dtype=x.dtype)
    out[..., :half] = left * cosine[..., :half] - right * sine[..., :half]
    out[..., half:] = right * cosine[..., half:] + left * sine[..., half:]
    return out
