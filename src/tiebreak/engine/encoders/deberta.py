"""DeBERTa-v2 and v3: scores between contents, and between contents and relative positions.

He et al., arXiv:2006.03654. The usual way looks up a score for each query and key, slower than computing it. Here the
table of relative positions is laid out by distance, multiplied with the queries, and the product read with a stride
that moves on by one a row: the scores stand where they belong without having been moved.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from tiebreak.engine.encoders.attention import SCORES, firsts, soften, split
from tiebreak.engine.encoders.linear import ACTIVATIONS, FusedLinear
from tiebreak.engine.encoders.norm import Norm
from tiebreak.engine.packed import Packed


class Deberta:
    """The layers of a `DebertaV2Model`, laid out for one CPU and one precision.

    Args:
        model: The model; its weights are copied.
        dtype: What to compute in.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.embeddings, self.dtype = model.embeddings, dtype
        table = model.encoder.get_rel_embedding()
        self.layers = [Layer(layer, table, model.config, dtype) for layer in model.encoder.layer]

    @staticmethod
    def refuses(model: Any) -> str:
        """Why this model has no fast path; empty: it has one."""
        if model.encoder.conv is not None:
            return "a DeBERTa with a convolution (v2-xlarge)"
        if not model.encoder.relative_attention or model.z_steps > 1:
            return "a DeBERTa without relative positions"
        return "" if model.config.hidden_act in ACTIVATIONS else f"activation {model.config.hidden_act!r}"

    def states(self, packed: Packed, types: Tensor | None, first: bool) -> Tensor:
        """Last hidden states, (T, hidden), or of the first tokens, (n, hidden)."""
        types = None if types is None else types.unsqueeze(0)
        ids, places = packed.input_ids.unsqueeze(0), packed.position_ids.unsqueeze(0)
        x = self.embeddings(input_ids=ids, token_type_ids=types, position_ids=places)[0].to(self.dtype)
        for layer in self.layers[:-1]:
            x = layer(x, packed.bounds)
        return self.layers[-1](x, packed.bounds, first=first)


class Layer:
    """One layer: disentangled attention and the feed-forward part, each added to its input and normalised."""

    def __init__(self, layer: Any, table: Tensor, config: Any, dtype: torch.dtype) -> None:
        own, after = layer.attention.self, layer.attention.output
        self.heads = own.num_attention_heads
        self.activation = ACTIVATIONS[config.hidden_act]
        self.distances = own.pos_ebd_size, own.position_buckets, own.max_relative_positions
        terms = 1 + ("c2p" in own.pos_att_type) + ("p2c" in own.pos_att_type)
        factor = (own.attention_head_size * terms) ** -0.5 * math.log2(math.e)
        projections = own.query_proj, own.key_proj, own.value_proj
        scaled = [factor, 1.0, 1.0]
        self.mixed = FusedLinear(
            torch.cat([p.weight * by for p, by in zip(projections, scaled, strict=True)]),
            torch.cat([p.bias * by for p, by in zip(projections, scaled, strict=True)]), dtype,
        )  # fmt: skip
        # (heads, 2 x span, size): queries bring the factor themselves, keys do not
        table = table[: 2 * own.pos_ebd_size]
        self.keys = self.queries = None
        if "c2p" in own.pos_att_type:
            project = own.key_proj if own.share_att_key else own.pos_key_proj
            self.keys = split(project(table), 1, self.heads)[0].to(dtype)
        if "p2c" in own.pos_att_type:
            project = own.query_proj if own.share_att_key else own.pos_query_proj
            self.queries = split(project(table) * factor, 1, self.heads)[0].to(dtype)
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
        key = key.contiguous()
        out = query.new_empty(len(x), self.heads, query.shape[-1])
        for i, (start, end) in enumerate(pairwise(bounds)):
            own = slice(i, i + 1) if first else slice(start, end)
            self._attend(query[:, own], key[:, start:end], value[:, start:end], out[own].transpose(0, 1))
        x = self.after_norm(self.after.plus(out.flatten(1), x))
        return self.norm(self.narrow.plus(self.wide(x, self.activation), x))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
        """Attention of one sequence, in blocks of queries; they stand at the first positions."""
        queries, length = query.shape[1], key.shape[1]
        step = max(16, SCORES // (4 * self.heads * length))
        for low in range(0, queries, step):
            high = min(low + step, queries)
            rows = _rows(low, high, length, *self.distances)
            score = partial(self._scores, query[:, low:high], key, rows)
            soften(score, value, out[:, low:high], own=low)

    def _scores(self, query: Tensor, key: Tensor, rows: Tensor) -> Tensor:
        """(heads, block, length): content with content, content with position, position with content."""
        transposed = key.transpose(1, 2)
        if self.keys is None:
            scores = torch.bmm(query, transposed)
        else:
            by_distance = torch.bmm(query, self.keys[:, rows].transpose(1, 2))
            scores = torch.baddbmm(_slanted(by_distance, key.shape[1]), query, transposed)
        if self.queries is not None:
            # rows run from the furthest key ahead to the furthest behind; keys see them the other way round
            by_distance = torch.bmm(key, self.queries[:, rows.flip(0)].transpose(1, 2))
            scores += _slanted(by_distance, query.shape[1]).transpose(1, 2)
        return scores


def _slanted(by_distance: Tensor, width: int) -> Tensor:
    """View of (heads, rows, rows + width - 1) as (heads, rows, width): row i begins at column rows - 1 - i."""
    heads, rows, columns = by_distance.shape
    return by_distance.as_strided((heads, rows, width), (rows * columns, columns - 1, 1), rows - 1)


@lru_cache(maxsize=64)
def _rows(low: int, high: int, length: int, span: int, buckets: int, furthest: int) -> Tensor:
    """Rows of the position table for the distances high - 1, ..., low - length + 1 between query and key."""
    distance = torch.arange(high - 1, low - length, -1)
    if buckets > 0 and furthest > 0:
        distance = make_log_bucket_position(distance, buckets, furthest).long()
    return torch.clamp(distance + span, 0, 2 * span - 1)
