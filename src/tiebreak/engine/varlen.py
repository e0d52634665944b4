"""Which kernel computes attention within the sequences of a packed batch; chosen once for each kind of layer.

On a GPU one call does the whole batch: `torch.nn.attention.varlen` (torch 2.10 and later) or flash-attn, whichever is
there and can do what the layer needs. All take a window as (left, right) distances and align causal masks to the last
key, which is what continuations of a shared prefix need.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor

from tiebreak.engine.packed import Packed
from tiebreak.engine.segments import per_sequence


@dataclass(frozen=True)
class Need:
    """What a layer asks of its attention.

    Attributes:
        scale: Factor of the scores.
        causal: Whether a token sees only what comes before it.
        window: A token sees others that are fewer than this many positions away; None: all.
        softcap: Scores s become softcap * tanh(s / softcap); None: they stay.
        dropout: Share of attention weights dropped.
    """

    scale: float
    causal: bool
    window: int | None = None
    softcap: float | None = None
    dropout: float = 0.0

    @property
    def sides(self) -> tuple[int, int]:
        """The window as the kernels want it: how far a token sees to the left and to the right, -1 without end."""
        reach = -1 if self.window is None else self.window - 1
        return (reach, 0 if self.causal else reach)


HALVES: Final = (torch.bfloat16, torch.float16)
"""What the kernels compute in."""

Kernel = Callable[[Tensor, Tensor, Tensor, Packed, Need], Tensor]


def attend(query: Tensor, key: Tensor, value: Tensor, packed: Packed, need: Need) -> Tensor:
    """Attention within each sequence: (heads, T, head size) each, keys with fewer heads; gives (T, heads, size).

    Under autocast everything is cast here, as `scaled_dot_product_attention` would: rotated queries arrive in fp32
    beside values in 16 bits.
    """
    if not query.is_meta and torch.is_autocast_enabled(query.device.type):  # the device of dry runs has no autocast
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    _, kernel = choose(
        query.device, query.dtype, query.shape[-1],
        windowed=need.window is not None, softcapped=need.softcap is not None, dropped=need.dropout > 0.0,
    )  # fmt: skip
    return kernel(query, key, value, packed, need)


@lru_cache(maxsize=64)
def choose(
    device: torch.device, dtype: torch.dtype, head_size: int, *, windowed: bool, softcapped: bool, dropped: bool
) -> tuple[str, Kernel]:
    """The name of a kernel and the kernel."""
    if _has_flash(device) and dtype in HALVES and head_size % 8 == 0 and head_size <= 256:
        torch_has = _torch_can()
        if "attend" in torch_has and not softcapped and not dropped and (not windowed or "window_size" in torch_has):
            return "torch varlen", _torch_varlen
        if _flash_attn() is not None:
            return "flash-attn varlen", _flash_varlen
    return "one SDPA a sequence" if not softcapped else "one matrix product a sequence", _by_sequence


def names(pooled: Any, device: torch.device) -> list[str]:
    """The kernels that a model's layers get on a device."""
    config = pooled.config
    weight = next(pooled.backbone.parameters())
    if config.model_type == "deberta-v2":
        return ["one matrix product a sequence"]
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    softcapped = getattr(config, "attn_logit_softcapping", None) is not None and config.model_type == "gemma2"
    windowed = getattr(config, "sliding_window", None) is not None
    kinds = {False, windowed}
    return sorted(
        {choose(device, weight.dtype, size, windowed=w, softcapped=softcapped, dropped=False)[0] for w in kinds}
    )


def _has_flash(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


@lru_cache(maxsize=1)
def _torch_can() -> frozenset[str]:
    """Argument names of torch's function, and "attend" if it is there at all."""
    try:
        function = import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return frozenset()
    return frozenset({"attend", *inspect.signature(function).parameters})


@lru_cache(maxsize=1)
def _flash_attn() -> Any:
    try:
        return import_module("flash_attn").flash_attn_varlen_func
    except (ImportError, AttributeError):
        return None


def _by_sequence(query: Tensor, key: Tensor, value: Tensor, packed: Packed, need: Need) -> Tensor:
    return per_sequence(
        query, key, value, packed, scale=need.scale, causal=need.causal, window=need.window, softcap=need.softcap,
        dropout=need.dropout,
    )  # fmt: skip


def _rows(query: Tensor, key: Tensor, value: Tensor, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
    """(T, heads, size) each, and the keys of a shared prefix repeated for its continuation."""
    query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    if packed.keys is not None:
        key, value = key[packed.keys.index], value[packed.keys.index]
    return query, key, value


def _torch_varlen(query: Tensor, key: Tensor, value: Tensor, packed: Packed, need: Need) -> Tensor:
    can = _torch_can()
    varlen_attn = import_module("torch.nn.attention.varlen").varlen_attn
    if "scale" not in can:  # torch 2.10 scales by the head size and nothing else
        query = query * (need.scale * query.shape[-1] ** 0.5)
    options: dict[str, Any] = {"scale": need.scale} if "scale" in can else {}
    if "window_size" in can:
        options["window_size"] = need.sides
    else:
        options["is_causal"] = need.causal
    if query.shape[0] != key.shape[0]:
        if "enable_gqa" in can:
            options["enable_gqa"] = True
        else:
            groups = query.shape[0] // key.shape[0]
            key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    query, key, value = _rows(query, key, value, packed)
    out: Tensor = varlen_attn(query, key, value, *_bounds(packed), **options)
    return out


def _flash_varlen(query: Tensor, key: Tensor, value: Tensor, packed: Packed, need: Need) -> Tensor:
    query, key, value = _rows(query, key, value, packed)
    softcap = {} if need.softcap is None else {"softcap": need.softcap}
    out: Tensor = _flash_attn()(
        query, key, value, *_bounds(packed), dropout_p=need.dropout, softmax_scale=need.scale, causal=need.causal,
        window_size=need.sides, **softcap,
    )  # fmt: skip
    return out


def _bounds(packed: Packed) -> tuple[Tensor, Tensor, int, int]:
    if packed.keys is None:
        return packed.cu_seqlens, packed.cu_seqlens, packed.max_seqlen, packed.max_seqlen
    return packed.cu_seqlens, packed.keys.cu_seqlens, packed.max_seqlen, packed.keys.max_seqlen
