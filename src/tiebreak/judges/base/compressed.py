"""Weights that llm-compressor packed (the compressed-tensors format), as plain weights again.

A weight of such a checkpoint is an integer with a scale for a group of inputs, and for some methods a zero point:
`weight = (integer - zero point) * scale`. Integers of 4 or 8 bits lie in int32 words, the first in the lowest bits,
each moved up by half its range. Written anew from the format, so that a bundle needs no further package to be read;
`tests/test_compress_quant.py` holds it against the library bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from tiebreak.errors import DataError

METHOD: Final = "compressed-tensors"
WITHOUT_DTYPE: Final = torch.float32
"""Of a checkpoint whose config.json names none."""

FORMATS: Final = ("pack-quantized", "int-quantized", "naive-quantized")

_PARTS: Final = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")


def is_compressed(quantised: Any) -> bool:
    """Whether a `quantization_config` of a config.json is of this kind."""
    return isinstance(quantised, Mapping) and quantised.get("quant_method") == METHOD


def read(files: list[Path], quantised: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a checkpoint, with plain weights.

    Args:
        files: The safetensors files.
        quantised: The `quantization_config` of its config.json.
        dtype: Of weights that were packed; the others come as stored.

    Raises:
        DataError: The format is one that is not read here, or a tensor is missing.
    """
    from safetensors import safe_open

    check(quantised, files[0].parent)
    bits = {group["weights"]["num_bits"] for group in quantised["config_groups"].values()}
    stored: dict[str, Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            stored |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    layers = sorted(name.removesuffix(".weight_scale") for name in stored if name.endswith(".weight_scale"))
    for layer in layers:
        parts = {part: stored.pop(f"{layer}.{part}") for part in ("weight", *_PARTS) if f"{layer}.{part}" in stored}
        try:
            stored[f"{layer}.weight"] = plain(parts, next(iter(bits))).to(dtype)
        except (KeyError, RuntimeError) as error:
            raise DataError(
                f"{files[0].parent}: the weights of {layer} cannot be unpacked ({error})",
                expected="a checkpoint as llm-compressor writes it",
            ) from error
    return stored


def check(quantised: Mapping[str, Any], folder: Path) -> None:
    """Refuse what `read` would get wrong.

    Raises:
        DataError: The format, the number of bits or a part of the scheme is not one that is read here.
    """
    groups = list((quantised.get("config_groups") or {}).values())
    formats = {quantised.get("format")} | {group.get("format") for group in groups} - {None}
    weights = [group.get("weights") or {} for group in groups]
    bits = {one.get("num_bits") for one in weights}
    kinds = {(one.get("type"), one.get("strategy")) for one in weights}
    known = {("int", "group"), ("int", "channel")}
    transformed = (quantised.get("transform_config") or {}).get("config_groups")
    if not formats <= set(FORMATS) or bits not in ({4}, {8}) or not kinds <= known or transformed:
        raise DataError(
            f"{folder}: weights compressed as {', '.join(map(str, sorted(map(str, formats))))} of "
            f"{', '.join(map(str, sorted(map(str, bits))))} bits",
            expected=f"one of {', '.join(FORMATS)} with whole numbers of 4 or 8 bits",
            mend="tiebreak compress the judge it was made of",
        )


def plain(parts: Mapping[str, Tensor], bits: int) -> Tensor:
    """The weight of one layer, float32 (outputs, inputs).

    Args:
        parts: Its tensors: `weight` (int8) or `weight_packed` (int32) with `weight_shape`; `weight_scale` of shape
            (outputs, groups); perhaps `weight_zero_point`, and `weight_g_idx` with the group of each input.
        bits: Of an integer.
    """
    scale = parts["weight_scale"].float()
    if "weight_packed" in parts:
        outputs, inputs = (int(size) for size in parts["weight_shape"])
        whole = unpack(parts["weight_packed"], bits, inputs)
    else:
        whole = parts["weight"].float()
        outputs, inputs = whole.shape
    groups = scale.reshape(outputs, -1).shape[1]
    member = parts.get("weight_g_idx")
    if member is None:
        member = torch.arange(inputs) // (inputs // groups)
    if "weight_zero_point" in parts:
        zero = parts["weight_zero_point"]
        if zero.dtype == torch.int32:  # packed along the outputs
            zero = unpack(zero.T, bits, outputs).T
        whole = whole - zero.reshape(outputs, -1).float()[:, member]
    return whole * scale.reshape(outputs, -1)[:, member]


def unpack(words: Tensor, bits: int, count: int) -> Tensor:
    """The integers in int32 words, as float32 (rows, count).

    Args:
        words: int32 (rows, at least count * bits / 32).
        bits: Of an integer, 4 or 8.
        count: Integers of a row.
    """
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    found = (words.contiguous()[:, :, None] >> shifts) & (2**bits - 1)
    whole: Tensor = found.flatten(1)[:, :count].float() - 2 ** (bits - 1)
    return whole
