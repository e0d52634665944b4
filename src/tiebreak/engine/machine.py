"""Which devices and which precision a choice means on this machine."""

from __future__ import annotations

import os
from typing import Any, Final

import torch
from torch import nn

from tiebreak.errors import UsageError

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RANKS: Final = "ranks"
ROOM: Final = 1.3
"""Memory of one GPU that a model must leave free for activations, as a multiple of its own bytes."""


def devices(choice: str, model_bytes: int) -> list[torch.device]:
    """The devices that the layers are split over, one a stage.

    Raises:
        UsageError: A name is not a device, or that device is not there.
    """
    if choice == RANKS:
        return [_own_device()]
    if choice == "auto":
        return _automatic(model_bytes)
    return [_device(name.strip()) for name in choice.split(",")]


def _own_device() -> torch.device:
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", local % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")


def _automatic(model_bytes: int) -> list[torch.device]:
    if not torch.cuda.is_available():
        return [torch.device("cpu")]
    free, _ = torch.cuda.mem_get_info(0)
    count = 1 if model_bytes * ROOM < free else torch.cuda.device_count()
    return [torch.device("cuda", i) for i in range(count)]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is not known", expected="cpu, cuda or cuda:N") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        there = torch.cuda.device_count()
        device = torch.device("cuda", device.index or 0)
        if device.index is None or device.index >= there:
            raise UsageError(
                f"device {name!r} is not on this machine", expected=f"{there} CUDA devices", mend="--devices auto"
            )
    return device


def precision(choice: str, where: list[torch.device]) -> str:
    """fp32, bf16, fp16 or int8: what `choice` means on these devices."""
    if choice != "auto":
        return choice
    if where[0].type == "cuda":
        fast = all(torch.cuda.get_device_capability(device) >= (8, 0) for device in where)
        return "bf16" if fast else "fp16"
    return "bf16" if where[0].type == "cpu" and _cpu_multiplies_bf16() else "fp32"


def _cpu_multiplies_bf16() -> bool:
    """Whether the CPU has bf16 matrix instructions: AVX512-BF16 or AMX, as torch itself reports them."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def is_quantised(module: nn.Module) -> bool:
    """Whether weights are already in few bits (bitsandbytes, GPTQ), so that their type is not ours to change."""
    quantised = any(getattr(part, "is_quantized", False) for part in module.modules())
    return quantised or any(
        type(parameter).__name__ in {"Params4bit", "Int8Params"} for parameter in module.parameters()
    )


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of the weights. Buffers keep theirs: rotary frequencies in 16 bits give wrong far positions."""
    if is_quantised(module):
        return
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)


def size(module: nn.Module) -> int:
    """Bytes of the parameters and buffers."""
    tensors: list[Any] = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def expected_bytes(module: nn.Module, precision: str) -> int:
    """Bytes on a GPU in a chosen precision; auto is 16 bits there."""
    if precision == "fp32" or is_quantised(module):
        return size(module)
    return 2 * sum(parameter.numel() for parameter in module.parameters())
