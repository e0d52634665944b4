"""An adapter merged into its base: module by module in fp32, each weight rounded once; the trained head as it is."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from tiebreak.combine.adapter import PREFIX, Adapter
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.base.loading import config, language_model, load
from tiebreak.judges.finetuned import Settings
from tiebreak.judges.model import GENERATIVE, JudgeModel, layer

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AS_BASE: Final = "base"


def check_dtype(name: str) -> None:
    """Refuse a type that weights are not written in.

    Raises:
        UsageError: It is none of base, fp32, bf16 and fp16.
    """
    if name not in (AS_BASE, *DTYPES):
        raise UsageError(f"--dtype {name!r}", expected=f"one of {AS_BASE}, {', '.join(DTYPES)}")


def dtype_of(name: str, base: Base) -> torch.dtype:
    """What the weights of a backbone are written in.

    Args:
        name: base, fp32, bf16 or fp16.
        base: The pretrained model, asked for "base".

    Raises:
        UsageError: The name is none of these.
    """
    check_dtype(name)
    if name in DTYPES:
        return DTYPES[name]
    stored = config(base).dtype
    return stored if isinstance(stored, torch.dtype) else torch.float32


def merged(settings: Settings, kind: Any, base: Base, adapter: Adapter, dtype: torch.dtype) -> JudgeModel:
    """A judge's network with its adapter in its weights.

    Every weight that changes is `(weight in fp32 + scale B A in fp32)` rounded to `dtype` once. A base in 4 bits is
    dequantised first, since the adapter was trained against those very 4 bits: rounding the sum to 4 bits again would
    undo a good part of it (peft issue 2321). The head keeps the bits of the adapter's file, in fp32; that of a language
    model was not trained, and is written like the rest.

    Args:
        settings: Of the judge.
        kind: classifier, siamese or generative.
        base: Where the weights below the adapter are.
        adapter: What is merged.
        dtype: Of the result, but for the head.

    Raises:
        DataError: The adapter has a module or a head that the base has not.
    """
    # In fp32 where 4 bits are decoded: the codes are exact there, and the sum is what is rounded.
    read_as = torch.float32 if settings.quantize or dtype == torch.float32 else None
    how: dict[str, Any] = {"dtype": read_as, "quantize": settings.quantize, "soft_capping": settings.soft_capping}
    if kind == GENERATIVE:
        model = language_model(base, **how)
    else:
        model, _ = load(base, layer(settings.head, kind), **how)
    _dequantise(model)
    with torch.no_grad():
        for name, factors in adapter.factors.items():
            module = _module(model, name)
            change = factors.scale * (factors.b.float() @ factors.a.float())
            if adapter.document.get("fan_in_fan_out"):
                change = change.T
            if change.shape != module.weight.shape:
                raise _misfit(f"{name} is {tuple(module.weight.shape)}, the adapter's change {tuple(change.shape)}")
            module.weight = _parameter((module.weight.float() + change).to(dtype))
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        for name, tensor in adapter.kept.items():
            _put(model, name.removeprefix(PREFIX), tensor)
    model.config.dtype = dtype
    return JudgeModel(model, kind, settings.pooling).eval()


def _module(model: nn.Module, name: str) -> Any:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise _misfit(f"the base has no {name}") from error


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace a parameter, whatever type it had."""
    place, _, last = name.rpartition(".")
    module = _module(model, place)
    old = getattr(module, last, None)
    if old is None or old.shape != tensor.shape:
        raise _misfit(f"{name} is {tuple(tensor.shape)} in the adapter and {'absent' if old is None else old.shape}")
    setattr(module, last, _parameter(tensor.clone()))


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _misfit(what: str) -> DataError:
    return DataError(f"the adapter does not fit its base: {what}", expected="an adapter of this very base")


def _dequantise(model: Any) -> None:
    """Linear layers in 4 bits become plain ones, and the model forgets that it was quantised."""
    if not getattr(model, "is_quantized", False):
        return
    from bitsandbytes import functional
    from bitsandbytes.nn.modules import Linear4bit

    for name, module in [pair for pair in model.named_modules() if isinstance(pair[1], Linear4bit)]:
        weight = functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        plain = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
        plain.weight, plain.bias = _parameter(weight.float()), module.bias
        model.set_submodule(name, plain)
    del model.config.quantization_config
    model.hf_quantizer = None
    for flag in ("is_quantized", "is_loaded_in_4bit"):
        setattr(model, flag, False)
