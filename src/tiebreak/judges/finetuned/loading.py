"""From a bundle's settings to the network, in the precision and on the device of this run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from tiebreak.engine import cpu
from tiebreak.judges.base import Base
from tiebreak.judges.finetuned.settings import Compression, Settings
from tiebreak.judges.model import JudgeModel
from tiebreak.judges.runtime import AUTO, Runtime

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def restore(settings: Settings, base: Base, directory: Path, kind: Any, runtime: Runtime) -> JudgeModel:
    """Read the network of a judge.

    Args:
        settings: What the bundle says.
        base: Where the weights below the adapter are.
        directory: The bundle.
        kind: classifier, siamese or generative.
        runtime: Precision and devices. The engine has the last word on both: weights are read as they were written, and
            an adapter merged into them, before anything is rounded. A model in 4 bits is quantised where it will run.
    """
    dtype, device = places(settings, runtime)
    return JudgeModel.restore(
        base, settings.head, kind, adapter=directory if settings.adapter else None, quantize=settings.quantize,
        soft_capping=settings.soft_capping, dtype=dtype, pooling=settings.pooling, device=device,
    )  # fmt: skip


def places(settings: Settings, runtime: Runtime) -> tuple[torch.dtype | None, str | None]:
    """In what dtype weights are read (None: as they were written), and where to (None: the CPU)."""
    dtype = torch.float32 if runtime.precision == "fp32" else None
    if settings.four_bits:
        dtype = _DTYPES.get(runtime.precision) or _compute_dtype()
    return dtype, _device(runtime.devices)


def own_precision(compression: Compression, network: JudgeModel, devices: str) -> str:
    """The precision that a compressed judge means by auto: int8 where it was made for rounded inputs and they can be.

    Without int8 kernels its weights are what they are and its inputs are not rounded, which only makes it more exact.
    """
    alone_on_cpu = devices == "cpu" or (devices == AUTO and not torch.cuda.is_available())
    if compression.activation_bits == 8 and alone_on_cpu and cpu.has_int8(network.pooled.config.model_type):
        return "int8"
    return AUTO


def _compute_dtype() -> torch.dtype:
    """What layers in 4 bits compute in: bf16, but for the GPUs that have none (T4, V100)."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def _device(devices: str) -> str | None:
    """Where to read the weights to: straight to the GPU where there is one; a model that is split starts on the CPU."""
    if "," in devices or devices in {"cpu", "ranks"}:
        return None
    if devices == "auto":
        return "cuda:0" if torch.cuda.is_available() else None
    return "cuda:0" if devices == "cuda" else devices
