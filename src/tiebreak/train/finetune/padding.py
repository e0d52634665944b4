"""The padded way through a model, for those who want to compare: a rectangle of tokens and a mask."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tiebreak.engine import Packed, Pooled


def pad(pooled: Pooled) -> None:
    """Have a `Pooled` compute its hidden states on padded rectangles; what comes before and after stays the same."""
    object.__setattr__(pooled, "hidden", partial(_hidden, pooled))


def _hidden(pooled: Pooled, packed: Packed) -> Tensor:
    """Last hidden states (T, hidden) of the real tokens."""
    lengths = packed.cu_seqlens.to(torch.int64).diff()
    columns = torch.arange(packed.max_seqlen, device=lengths.device)
    real = columns < lengths[:, None]
    ids = torch.full(real.shape, pooled.config.pad_token_id or 0, dtype=torch.int64, device=real.device)
    ids[real] = packed.input_ids
    arguments = {"use_cache": False} if pooled.causal else {}
    out = pooled.backbone(input_ids=ids, attention_mask=real.to(torch.int64), **arguments)
    states: Tensor = out.last_hidden_state[real]
    return states
