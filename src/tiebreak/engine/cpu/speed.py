"""What a decoder needs to be fast on a CPU, put in place."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from tiebreak.engine.cpu.allocator import settle_allocator
from tiebreak.engine.cpu.matrices import DTYPES, Precision
from tiebreak.engine.cpu.modules import FastAttention, FastMlp, FastNorm
from tiebreak.engine.cpu.native import Kernels, Unavailable, load_kernels
from tiebreak.errors import UsageError

FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
"""Configurations' `model_type`. Others may look alike and rotate or scale otherwise."""

NORMS: Final = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip


def speed_up(backbone: Any, *, precision: Precision) -> list[str]:
    """Replace the modules of a decoder (Llama, Mistral, Qwen 2 and 3, Gemma 2 and 3), in place, for inference alone.

    The forward signature stays: packed batches (`packed=`, as `Pooled` calls it) take the fast path, padded ones go
    through transformers' own attention with the same packed weights. Weights that were replaced are freed. Nothing is
    differentiable any more.

    Args:
        backbone: The model without its head, on the CPU.
        precision: Of the linear layers. int8: weights per output, activations per row, rounded as they arrive.

    Returns:
        What could not be replaced and why, a line each; empty when all was.

    Raises:
        UsageError: int8 is asked for and cannot be had.
    """
    backbone.requires_grad_(False)
    for parameter in backbone.parameters():  # buffers keep their type: rotary frequencies need it
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(DTYPES[precision])
    settle_allocator()
    kernels, family = load_kernels(), backbone.config.model_type
    if family not in FAMILIES:
        kernels = Unavailable(f"the family {family} has none")
    if isinstance(kernels, Unavailable):
        if precision == "int8":
            raise UsageError(f"no int8 path: {kernels.reason}", expected="fp32 or bf16", mend="--precision auto")
        return [f"plain layers: {kernels.reason}"]
    layers = backbone.layers
    missed: dict[str, int] = {}
    with torch.inference_mode(False), torch.no_grad():
        for layer in layers:
            for part in _replace(kernels, layer, precision):
                missed[part] = missed.get(part, 0) + 1
        _replace_norm(kernels, backbone, "norm", precision)
    return [f"plain {part} in {count} of {len(layers)} layers: its form is not known" for part, count in missed.items()]


def has_int8(family: str) -> bool:
    """Whether `speed_up` in int8 works here for this `model_type`."""
    return family in FAMILIES and not isinstance(load_kernels(), Unavailable)


def _replace(kernels: Kernels, layer: nn.Module, precision: Precision) -> list[str]:
    """Replace what can be; gives the names of what cannot."""
    missed = []
    attention: Any = getattr(layer, "self_attn", None)
    if attention is not None and FastAttention.fits(attention):
        layer.self_attn = FastAttention(kernels, attention, precision, precision)
    else:
        missed.append("attention")
    mlp: Any = getattr(layer, "mlp", None)
    if mlp is not None and FastMlp.fits(mlp):
        layer.mlp = FastMlp(kernels, mlp, precision, precision)
    else:
        missed.append("MLP")
    for name in NORMS:
        _replace_norm(kernels, layer, name, precision)
    return missed


def _replace_norm(kernels: Kernels, owner: nn.Module, name: str, precision: Precision) -> None:
    norm = getattr(owner, name, None)
    if norm is not None and type(norm).__name__.endswith("RMSNorm"):
        setattr(owner, name, FastNorm(kernels, norm, precision))
