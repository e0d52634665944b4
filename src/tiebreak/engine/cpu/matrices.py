"""Weights in the order in which the kernels read them."""

from __future__ import annotations

from ctypes import byref
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from tiebreak.engine.cpu.native import Kernels, MatrixLayout

Precision = Literal["fp32", "bf16", "int8"]

CODES: Final = {"fp32": 0, "bf16": 1, "int8": 2}
DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}
"""What activations are made of; int8 ones are rounded row by row inside the kernels."""
PER_WORD: Final = {"fp32": 1, "bf16": 2, "int8": 4}
LANES: Final = 16
PANEL: Final = 32
"""Columns of a register and of a panel, as in the kernels."""
GROUP: Final = 192
"""Inputs that share a scale in int8."""


class Matrix:
    """One packed weight, outputs x inputs, read-only.

    Bytes: each output has its own scale, the largest absolute weight over 127. Inputs are rounded when they arrive, to
    unsigned bytes around 128, with a scale for every `GROUP` of them in a row; the kernels take 128 times the sum of
    the weights away again.

    Args:
        kernels: What packs and multiplies.
        weight: (outputs, inputs), floating point.
        bias: (outputs,) or None.
        precision: Of the product.
    """

    def __init__(self, kernels: Kernels, weight: Tensor, bias: Tensor | None, precision: Precision) -> None:
        self.kernels, self.precision = kernels, precision
        outputs, inputs = weight.shape
        if inputs % PER_WORD[precision]:
            raise ValueError(f"{inputs} inputs are not a multiple of {PER_WORD[precision]}")
        self.outputs = outputs
        columns = -(-outputs // PANEL) * PANEL
        scale: Tensor | None = None
        if precision == "int8":
            largest = weight.float().abs().amax(1).clamp_min(1e-12) / 127
            weight = (weight.float() / largest[:, None]).round().to(torch.int8)
            scale = _padded(largest, columns)
            shift = _shift(weight, columns)
        else:
            weight, shift = weight.to(DTYPES[precision]), None
        panels = torch.zeros(columns * inputs, dtype=weight.dtype)
        weight = weight.contiguous()
        words = inputs // PER_WORD[precision]
        kernels.pack(weight.data_ptr(), outputs, inputs, words, CODES[precision], panels.data_ptr())
        self._tensors = (panels, scale, shift, None if bias is None else _padded(bias.float(), columns))
        self.layout = MatrixLayout(*(_pointer(tensor) for tensor in self._tensors), outputs, words)

    def columns(self, start: int, end: int) -> Matrix:
        """Some of the outputs, sharing the memory; `start` is a multiple of `PANEL`."""
        part = object.__new__(Matrix)
        part.kernels, part.precision, part.outputs = self.kernels, self.precision, end - start
        panels, scale, shift, bias = self._tensors
        inputs = self.layout.words * PER_WORD[self.precision]
        scale, bias = (vector if vector is None else vector[start:] for vector in (scale, bias))
        shift = None if shift is None else shift[start * -(-inputs // GROUP) :]
        part._tensors = (panels[start * inputs :], scale, shift, bias)
        part.layout = MatrixLayout(*(_pointer(tensor) for tensor in part._tensors), end - start, self.layout.words)
        return part

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, inputs) to (n, outputs), both in the precision's dtype; rows may be strided."""
        out = rows.new_empty(len(rows), self.outputs)
        self.kernels.linear(
            CODES[self.precision], rows.data_ptr(), rows.stride(0), len(rows), byref(self.layout), out.data_ptr(),
            self.outputs, torch.get_num_threads(),
        )  # fmt: skip
        return out


def rows_of(states: Tensor) -> Tensor:
    """(..., width) as (n, width) whose numbers lie side by side."""
    return states.reshape(-1, states.shape[-1]).contiguous()


def stacked(linears: list[Any]) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of several linear layers as one."""
    weight = torch.cat([linear.weight for linear in linears])
    if all(linear.bias is None for linear in linears):
        return weight, None
    zeros = [linear.weight.new_zeros(linear.out_features) for linear in linears]
    biases = [zero if linear.bias is None else linear.bias for linear, zero in zip(linears, zeros, strict=True)]
    return weight, torch.cat(biases)


def is_plain(module: nn.Module, *names: str) -> bool:
    """Whether the sub-modules of these names are linear layers and nothing more (no adapter, no quantised weight)."""
    return all(type(getattr(module, name, None)) is nn.Linear for name in names)


def _shift(weight: Tensor, columns: int) -> Tensor:
    """-128 x the sums of the weights (outputs, inputs) in each group of inputs, panel after panel: int32."""
    groups = -(-weight.shape[1] // GROUP)
    sums = torch.zeros(columns, groups, dtype=torch.int32)
    for group, part in enumerate(torch.split(weight, GROUP, dim=1)):
        sums[: len(weight), group] = -128 * part.sum(1, dtype=torch.int32)
    return sums.view(-1, PANEL, groups).transpose(1, 2).reshape(-1)


def _padded(vector: Tensor, length: int) -> Tensor:
    out = torch.zeros(length, dtype=torch.float32)
    out[: len(vector)] = vector
    return out


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
