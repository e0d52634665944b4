"""DeBERTa-v2 and v3, packed: their disentangled attention knows neither attention interface nor fused kernels.

The backbone's own layers run on the whole batch; only the scores between queries, keys and relative positions (He et
al., arXiv:2006.03654) are worked out sequence by sequence.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention, build_relative_position

from tiebreak.engine.packed import Packed


def is_deberta(backbone: nn.Module) -> bool:
    """Whether this is a DeBERTa-v2 or v3 backbone."""
    return getattr(getattr(backbone, "config", None), "model_type", None) == "deberta-v2"


def install(backbone: nn.Module) -> None:
    """Have every attention layer understand a `Packed` in the place of its mask."""
    for module in backbone.modules():
        if isinstance(module, DisentangledSelfAttention) and not isinstance(module.forward, partial):
            module.forward = partial(_forward, module, module.forward)


def hidden(backbone: Any, packed: Packed) -> Tensor:
    """Last hidden states (T, hidden)."""
    encoder = backbone.encoder
    states = embedded = backbone.embeddings(
        input_ids=packed.input_ids.unsqueeze(0), position_ids=packed.position_ids.unsqueeze(0)
    )
    rel_embeddings = encoder.get_rel_embedding()
    for i, layer in enumerate(encoder.layer):
        states = layer(states, packed, rel_embeddings=rel_embeddings)[0]
        if i == 0 and encoder.conv is not None:
            states = _convolved(encoder.conv, embedded, states, packed)
    last: Tensor = states[0]
    return last


def _convolved(conv: Any, embedded: Tensor, states: Tensor, packed: Packed) -> Tensor:
    """The convolution of v2-xlarge, which must not see across the end of a sequence."""
    outs = []
    for start, end in zip(packed.bounds, packed.bounds[1:], strict=False):
        ones = torch.ones(1, end - start, dtype=torch.int64, device=states.device)
        outs.append(conv(embedded[:, start:end], states[:, start:end], ones))
    return torch.cat(outs, 1)


def _forward(
    module: Any, original: Any, hidden_states: Tensor, attention_mask: Any, *arguments: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    if not isinstance(attention_mask, Packed):
        padded: tuple[Tensor, Tensor | None] = original(hidden_states, attention_mask, *arguments, **options)
        return padded
    packed = attention_mask
    query, key, value = (
        _heads(module, project(hidden_states[0])) for project in (module.query_proj, module.key_proj, module.value_proj)
    )
    terms = ("c2p" in module.pos_att_type) + ("p2c" in module.pos_att_type)
    scale = (query.shape[-1] * (1 + terms)) ** -0.5
    positions = _positions(module, options.get("rel_embeddings"))
    outs = []
    for start, end in zip(packed.bounds, packed.bounds[1:], strict=False):
        q, k, v = query[:, start:end], key[:, start:end], value[:, start:end]
        scores = (q @ k.transpose(1, 2) + _bias(module, q, k, positions)) * scale
        weights = module.dropout(F.softmax(scores, dim=-1))
        outs.append((weights @ v).transpose(0, 1).flatten(1))
    return torch.cat(outs).unsqueeze(0), None


def _heads(module: Any, states: Tensor) -> Tensor:
    """(rows, heads x size) to (heads, rows, size)."""
    return states.view(len(states), module.num_attention_heads, -1).transpose(0, 1)


def _positions(module: Any, rel_embeddings: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Keys and queries of the relative positions, (heads, 2 x span, size) each, worked out once a layer."""
    if not module.relative_attention or rel_embeddings is None:
        return None, None
    table = module.pos_dropout(rel_embeddings)[: 2 * module.pos_ebd_size]
    own = "" if module.share_att_key else "pos_"
    to_key, to_query = (getattr(module, f"{own}{name}_proj", None) for name in ("key", "query"))
    return (
        _heads(module, to_key(table)) if to_key is not None and "c2p" in module.pos_att_type else None,
        _heads(module, to_query(table)) if to_query is not None and "p2c" in module.pos_att_type else None,
    )


def _bias(module: Any, query: Tensor, key: Tensor, positions: tuple[Tensor | None, Tensor | None]) -> Tensor | float:
    """Content-to-position plus position-to-content scores (heads, L, L) of one sequence, not yet scaled."""
    pos_key, pos_query = positions
    length, heads = query.shape[1], query.shape[0]
    bias: Tensor | float = 0.0
    if pos_key is None and pos_query is None:
        return bias
    distance = _distance(
        length, module.pos_ebd_size, module.position_buckets, module.max_relative_positions, query.device
    )
    if pos_key is not None:
        bias = torch.gather(query @ pos_key.transpose(1, 2), -1, distance.expand(heads, -1, -1))
    if pos_query is not None:
        index = distance.T.expand(heads, -1, -1)
        bias = bias + torch.gather(key @ pos_query.transpose(1, 2), -1, index).transpose(1, 2)
    return bias


@lru_cache(maxsize=16)
def _distance(length: int, span: int, buckets: int, furthest: int, device: torch.device) -> Tensor:
    """int64 (L, L): the row of the position table for query i and key j."""
    probe = torch.empty(length, 0, device=device)
    relative = build_relative_position(probe, probe, bucket_size=buckets, max_position=furthest)[0]
    return torch.clamp(relative + span, 0, 2 * span - 1)
