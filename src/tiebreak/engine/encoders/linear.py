"""Linear layers with weights in the processor's own layout, and what follows them fused into the product."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Activation = Literal["none", "gelu", "gelu_tanh"]

ACTIVATIONS: Final[dict[str, Activation]] = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
}  # fmt: skip
"""Names of activations in transformers' configurations, and ours."""

ROWS: Final = 512
"""How many rows a product is laid out for. Others work as well, at nearly the same speed."""


@cache
def fuses(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies this type here: float32 on every x86 and ARM build, bfloat16 where the CPU has it."""
    if not torch._C._has_mkldnn:
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


class FusedLinear:
    """x W^T + b, then an activation or a residual, in one pass over the result.

    In bfloat16 the prepared layout saves a reordering at each call; in float32 it also leaves MKL, which reaches less
    than half of an AMD processor's speed, for oneDNN.

    Args:
        weight: (outputs, inputs); copied.
        bias: (outputs,) or None.
        dtype: What to compute in.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._fused = fuses(dtype)
        self._weight = weight.detach().to(dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(dtype)
        if self._fused:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, ROWS)

    @classmethod
    def of(cls, linear: Any, dtype: torch.dtype) -> Self:
        """The fused copy of an `nn.Linear`."""
        return cls(linear.weight, linear.bias, dtype)

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """(rows, inputs) to (rows, outputs)."""
        if not self._fused:
            out = F.linear(x, self._weight, self._bias)
            return out if activation == "none" else F.gelu(out, approximate=_APPROXIMATE[activation])
        kind, algorithm = ("none", "") if activation == "none" else ("gelu", _APPROXIMATE[activation])
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, kind, [], algorithm)
        return fused

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product, its bias, and a residual added."""
        if not self._fused:
            return F.linear(x, self._weight, self._bias) + residual
        fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._weight, self._bias, "add")
        return fused


_APPROXIMATE: Final = {"gelu": "none", "gelu_tanh": "tanh"}
