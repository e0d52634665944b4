"""Weights in 4 bits that stay trainable after a validation on a CPU."""

from __future__ import annotations

from torch import nn

PACKING = "support_avx512bf16_for_cpu"


def keep_trainable(model: nn.Module) -> None:
    """Forbid bitsandbytes to repack 4-bit weights for inference.

    On a CPU with AVX512-bf16, its `Linear4bit` in evaluation mode turns its weights for good into a form that has a
    forward kernel only (0.50): the first validation would cut off the gradient of every layer below, with a warning.
    """
    for module in model.modules():
        if hasattr(module, PACKING):
            setattr(module, PACKING, False)
