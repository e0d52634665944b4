"""How fast this process multiplies matrices: what a share of the hardware is a share of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch

SHAPES: Final = ((576, 960), (576, 576), (576, 3072), (1536, 576))
"""(inputs, outputs) of the linear layers of SmolLM2-135M: queries, keys and values; output; gate and up; down."""


def matrix_rate(
    dtype: torch.dtype = torch.bfloat16, *, rows: int = 2048, seconds: float = 0.5,
    shapes: tuple[tuple[int, int], ...] = SHAPES, clock: Callable[[], float] = time.perf_counter,
) -> float:  # fmt: skip
    """Floating-point operations a second of torch's own matrix product, on all threads that torch uses now.

    Each shape counts as often as its operations weigh; of each the median time is taken.

    Args:
        dtype: Of both operands.
        rows: Rows of the left operand.
        seconds: Measured for this long in all, after one warm-up.
        shapes: (inputs, outputs) of the right operands.
        clock: Seconds; `time.process_time` where other processes disturb and one thread is measured.
    """
    operations = elapsed = 0.0
    generator = torch.Generator().manual_seed(0)
    for inputs, outputs in shapes:
        left = torch.randn(rows, inputs, generator=generator).to(dtype)
        right = torch.randn(outputs, inputs, generator=generator).to(dtype)
        torch.nn.functional.linear(left, right)
        times: list[float] = []
        end = time.perf_counter() + seconds / len(shapes)
        while not times or time.perf_counter() < end:
            started = clock()
            torch.nn.functional.linear(left, right)
            times.append(clock() - started)
        operations += 2.0 * rows * inputs * outputs
        elapsed += sorted(times)[len(times) // 2]
    return operations / elapsed
