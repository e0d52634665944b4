"""Layer normalisation, its parameters in the precision of the computation."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Norm:
    """A copy of `nn.LayerNorm`, or nothing at all in the place of `nn.Identity`."""

    def __init__(self, norm: nn.Module, dtype: torch.dtype) -> None:
        self._norm = norm if isinstance(norm, nn.LayerNorm) else None
        if self._norm is not None:
            self._weight = self._norm.weight.detach().to(dtype)
            self._bias = None if self._norm.bias is None else self._norm.bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, hidden) to (rows, hidden)."""
        if self._norm is None:
            return x
        return F.layer_norm(x, self._norm.normalized_shape, self._weight, self._bias, self._norm.eps)
