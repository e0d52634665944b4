"""BERT and the MiniLMs distilled from it."""

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


class Bert:
    """The layers of a `BertModel`, laid out for one CPU and one precision.

    Args:
        model: The model; its weights are copied.
        dtype: What to compute in.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        embeddings = model.embeddings
        self.words = embeddings.word_embeddings.weight.detach().to(dtype)
        self.places = embeddings.position_embeddings.weight.detach().to(dtype)
        self.types = embeddings.token_type_embeddings.weight.detach().to(dtype)
        self.norm = Norm(embeddings.LayerNorm, dtype)
        self.layers = [Layer(layer, model.config, dtype) for layer in model.encoder.layer]

    @staticmethod
    def refuses(model: Any) -> str:
        """Why this model has no fast path; empty: it has one."""
        if model.config.is_decoder:
            return "a BERT that decodes"
        return "" if model.config.hidden_act in ACTIVATIONS else f"activation {model.config.hidden_act!r}"

    def states(self, packed: Packed, types: Tensor | None, first: bool) -> Tensor:
        """Last hidden states, (T, hidden), or of the first tokens, (n, hidden)."""
        x = F.embedding(packed.input_ids, self.words) + F.embedding(packed.position_ids, self.places)
        x = self.norm(x + (self.types[0] if types is None else F.embedding(types, self.types)))
        for layer in self.layers[:-1]:
            x = layer(x, packed.bounds)
        return self.layers[-1](x, packed.bounds, first=first)


class Layer:
    """One layer: attention and the feed-forward part, each added to its input and normalised."""

    def __init__(self, layer: Any, config: Any, dtype: torch.dtype) -> None:
        own, after = layer.attention.self, layer.attention.output
        self.heads = own.num_attention_heads
        self.activation = ACTIVATIONS[config.hidden_act]
        factor = own.attention_head_size**-0.5 * math.log2(math.e)
        # A bias of the keys adds the same to all scores of a query, and softmax does not see it.
        biases = own.query.bias * factor, torch.zeros_like(own.key.bias), own.value.bias
        weight = torch.cat([own.query.weight * factor, own.key.weight, own.value.weight])
        self.mixed = FusedLinear(weight, torch.cat(biases), dtype)
        self.after, self.after_norm = FusedLinear.of(after.dense, dtype), Norm(after.LayerNorm, dtype)
        self.wide, self.narrow = (
            FusedLinear.of(layer.intermediate.dense, dtype),
            FusedLinear.of(layer.output.dense, dtype),
        )
        self.norm = Norm(layer.output.LayerNorm, dtype)

    def __call__(self, x: Tensor, bounds: tuple[int, ...], *, first: bool = False) -> Tensor:
        """(T, hidden) to (T, hidden), or with `first` to (n, hidden)."""
        query, key, value = split(self.mixed(x), 3, self.heads)
        if first:
            query, x = firsts(query, bounds, 1), firsts(x, bounds, 0)
        x = self.after_norm(self.after.plus(within(query, key.contiguous(), value, bounds, first=first), x))
        return self.norm(self.narrow.plus(self.wide(x, self.activation), x))
