"""Modules that take the place of transformers' own: linear layer, RMS norm, gated MLP, attention."""

from __future__ import annotations

from ctypes import byref
from typing import Any

import torch
from torch import Tensor, nn

from tiebreak.engine.cpu.matrices import (
    CODES,
    LANES,
    PANEL,
    Matrix,
    Precision,
    is_plain,
    rows_of,
    stacked,
)
from tiebreak.engine.cpu.native import HeadsLayout, Kernels
from tiebreak.engine.packed import Packed

ACTIVATIONS = {"silu": 0, "swish": 0, "gelu_pytorch_tanh": 1}
"""Names in configurations to the codes of the kernels."""


class FastLinear(nn.Module):
    """A packed weight as a module."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, states: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return self.matrix(rows_of(states)).view(*states.shape[:-1], -1)


class FastNorm(nn.Module):
    """RMS norm in one pass, rounded once.

    Args:
        kernels: The inner loop.
        norm: The norm of transformers; those of Gemma add one to the weight.
        precision: fp32 or bf16 decides what arrives; int8 arrives as bf16.
    """

    def __init__(self, kernels: Kernels, norm: Any, precision: Precision) -> None:
        super().__init__()
        self.kernels = kernels
        self.code = CODES["fp32" if precision == "fp32" else "bf16"]
        self.eps = float(norm.eps if hasattr(norm, "eps") else norm.variance_epsilon)
        self.factors = norm.weight.detach().float() + float(type(norm).__name__.startswith("Gemma"))

    def forward(self, states: Tensor) -> Tensor:
        """Any shape, the last dimension normed."""
        rows = rows_of(states)
        out = torch.empty_like(rows)
        self.kernels.rms_norm(
            self.code, rows.data_ptr(), rows.stride(0), len(rows), rows.shape[1], self.factors.data_ptr(), self.eps,
            out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out.view(states.shape)


class FastMlp(nn.Module):
    """down(activation(gate(x)) * up(x)) for some rows at a time, so that what lies between stays in the cache.

    Args:
        kernels: The inner loop.
        mlp: The MLP of transformers; see `fits`.
        precision: Of gate and up.
        down_precision: Of down: bf16 may stand behind int8, since its inputs have the outliers.
    """

    def __init__(self, kernels: Kernels, mlp: Any, precision: Precision, down_precision: Precision) -> None:
        super().__init__()
        self.kernels = kernels
        self.activation = ACTIVATIONS[_activation(mlp)]
        turns = [linear.weight.unflatten(0, (-1, LANES)) for linear in (mlp.gate_proj, mlp.up_proj)]
        self.gate_up = Matrix(kernels, torch.stack(turns, 1).flatten(0, 2), None, precision)
        self.down = Matrix(kernels, mlp.down_proj.weight, mlp.down_proj.bias, down_precision)

    @staticmethod
    def fits(mlp: Any) -> bool:
        """Whether the kernel can take its place."""
        if not is_plain(mlp, "gate_proj", "up_proj", "down_proj") or _activation(mlp) not in ACTIVATIONS:
            return False
        unbiased = mlp.gate_proj.bias is None and mlp.up_proj.bias is None
        return bool(unbiased and mlp.gate_proj.in_features % 4 == 0 and mlp.gate_proj.out_features % LANES == 0)

    def forward(self, states: Tensor) -> Tensor:
        """(..., hidden) to the same shape."""
        rows = rows_of(states)
        out = rows.new_empty(len(rows), self.down.outputs)
        self.kernels.mlp(
            CODES[self.gate_up.precision], CODES[self.down.precision], rows.data_ptr(), rows.stride(0), len(rows),
            byref(self.gate_up.layout), byref(self.down.layout), self.activation, out.data_ptr(), out.stride(0),
            torch.get_num_threads(),
        )  # fmt: skip
        return out.view(*states.shape[:-1], -1)


def _activation(mlp: Any) -> str:
    config = getattr(mlp, "config", None)
    return str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None))


class FastAttention(nn.Module):
    """Attention with one product for queries, keys and values, and one kernel for norms, rotation and attention.

    A packed batch takes this path. All else (a padded batch with its mask, a cache of keys) is computed by the module
    of transformers as before, with its linear layers replaced by parts of the same packed weights.

    Args:
        kernels: The inner loops.
        attention: The attention module of transformers; see `fits`.
        precision: Of the linear layers; attention itself is fp32 or bf16.
        out_precision: Of the last linear layer.
    """

    def __init__(self, kernels: Kernels, attention: Any, precision: Precision, out_precision: Precision) -> None:
        super().__init__()
        self.kernels = kernels
        self.code = CODES["fp32" if precision == "fp32" else "bf16"]
        self.is_causal = attention.is_causal
        linears = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.qkv = Matrix(kernels, *stacked(linears), precision)
        self.out = Matrix(kernels, attention.o_proj.weight, attention.o_proj.bias, out_precision)
        self.norms = [FastNorm(kernels, n, precision) for n in _norms(attention)]
        size = attention.head_dim
        self.heads, self.groups, self.size = linears[0].out_features // size, linears[1].out_features // size, size
        pointers = [norm.factors.data_ptr() for norm in self.norms] or [None, None]
        self.layout = HeadsLayout(
            self.heads, self.groups, size, attention.scaling, getattr(attention, "attn_logit_softcapping", None) or 0.0,
            _window(attention) or 0, *pointers, self.norms[0].eps if self.norms else 0.0,
        )  # fmt: skip
        self.plain = self._with_parts(attention, linears)

    def _with_parts(self, attention: Any, linears: list[Any]) -> Any:
        start = 0
        for name, linear in zip(("q_proj", "k_proj", "v_proj"), linears, strict=True):
            end = start + linear.out_features
            setattr(attention, name, FastLinear(self.qkv.columns(start, end)))
            start = end
        attention.o_proj = FastLinear(self.out)
        for name, norm in zip(("q_norm", "k_norm"), self.norms, strict=False):
            setattr(attention, name, norm)
        return attention

    @staticmethod
    def fits(attention: Any) -> bool:
        """Whether the kernel can take its place."""
        if not is_plain(attention, "q_proj", "k_proj", "v_proj", "o_proj") or not attention.is_causal:
            return False
        sizes = (attention.q_proj.out_features, attention.k_proj.out_features)
        size = attention.head_dim
        whole = all(s % PANEL == 0 for s in sizes) and size % LANES == 0 and size <= 512
        return bool(whole and attention.q_proj.in_features % 4 == 0)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        packed: Packed | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As the module of transformers; `packed` says where the sequences of (1, T, hidden) begin."""
        whole = position_embeddings is not None and position_embeddings[0].shape[-1] == self.size
        if packed is None or past_key_values is not None or position_embeddings is None or not whole:
            result: tuple[Tensor, Tensor | None] = self.plain(
                hidden_states=hidden_states, position_embeddings=position_embeddings, attention_mask=attention_mask,
                past_key_values=past_key_values, **({} if packed is None else {"packed": packed}), **kwargs,
            )  # fmt: skip
            return result
        qkv = self.qkv(rows_of(hidden_states))
        attended = self._attend(qkv, *position_embeddings, packed)
        return self.out(attended).view(*hidden_states.shape[:-1], -1), None

    def _attend(self, qkv: Tensor, cosine: Tensor, sine: Tensor, packed: Packed) -> Tensor:
        out = qkv.new_empty(len(qkv), self.heads * self.size)
        reused = torch.tensor(packed.reused, dtype=torch.int32) if any(packed.reused) else None
        cosine, sine = rows_of(cosine).to(qkv.dtype), rows_of(sine).to(qkv.dtype)
        scratch = self._scratch(qkv, packed)
        self.kernels.attention(
            self.code, qkv.data_ptr(), qkv.stride(0), cosine.data_ptr(), sine.data_ptr(),
            packed.cu_seqlens.data_ptr(), None if reused is None else reused.data_ptr(), len(packed),
            byref(self.layout), out.data_ptr(), out.stride(0), scratch.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return out

    def _scratch(self, qkv: Tensor, packed: Packed) -> Tensor:
        keys = packed.tokens + sum(packed.reused) + PANEL * len(packed)
        return qkv.new_empty(keys * self.groups * (self.size + -(-self.size // PANEL) * PANEL))


def _norms(attention: Any) -> list[Any]:
    return [attention.q_norm, attention.k_norm] if hasattr(attention, "q_norm") else []


def _window(attention: Any) -> int | None:
    """Mistral looks it up in its configuration, Llama has none, the others know it themselves."""
    owner = attention.config if attention.config.model_type == "mistral" else attention
    window: int | None = getattr(owner, "sliding_window", None)
    return window
