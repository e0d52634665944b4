"""Where a CPU's own fast paths are put in, if there are any for the model."""

from __future__ import annotations

from typing import Any, Final

import torch

from tiebreak.engine import cpu, encoders, varlen
from tiebreak.engine.cpu.modules import FastAttention
from tiebreak.engine.pooled import Pooled
from tiebreak.errors import UsageError

DECODER_PRECISIONS: Final = ("fp32", "bf16", "int8")
ENCODER_PRECISIONS: Final = ("fp32", "bf16")


def speed_up(pooled: Pooled, precision: str, device: torch.device) -> list[str]:
    """Put in what makes this model fast on this device. From then on it is for inference alone.

    Returns:
        Fallbacks: what could not be put in and why, a line each.

    Raises:
        UsageError: int8 where no int8 path exists.
    """
    kind = getattr(pooled.config, "model_type", "")
    chosen: Any = precision
    if device.type == "cpu" and kind in encoders.FAMILIES and precision in ENCODER_PRECISIONS:
        if _has_adapter(pooled):
            return [f"{kind}: plain layers, the adapter is not merged"]
        report = encoders.speed_up_encoder(pooled.backbone, precision=chosen)
        return [f"{kind}: {report['why']}"] if "why" in report else []
    if device.type == "cpu" and pooled.causal and precision in DECODER_PRECISIONS:
        return cpu.speed_up(pooled.backbone, precision=chosen)
    refuse_int8(precision, str(device))
    return []


def _has_adapter(pooled: Pooled) -> bool:
    """Whether layers are wrapped, as `peft` does: a copy of their weights would leave the adapter out."""
    return any(hasattr(module, "base_layer") for module in pooled.backbone.modules())


def attention_names(pooled: Pooled, device: torch.device) -> list[str]:
    """What computes attention: loops of our own, or the kernels of `varlen`."""
    own = [isinstance(module, FastAttention) for module in pooled.backbone.modules()]
    if any(own) or encoders.fast_path(pooled.backbone) is not None:
        return ["own loops of a CPU"]
    return varlen.names(pooled, device)


def refuse_int8(precision: str, where: str) -> None:
    """Raise for int8 where it does not exist."""
    if precision == "int8":
        raise UsageError(
            f"precision int8 on {where}", expected="a decoder on one CPU, or fp32, bf16, fp16", mend="--precision auto"
        )
