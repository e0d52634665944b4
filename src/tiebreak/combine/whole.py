"""Judges whose bundles hold whole weights, averaged: tensor by tensor in fp32, one file at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tiebreak.errors import DataError
from tiebreak.judges.base import Base, Located
from tiebreak.judges.base.locate import weight_files


def write_mean(bundles: Sequence[Path], weights: Sequence[float], folder: Path) -> None:
    """Write the mean of whole weights, in the files and types of the first bundle.

    Memory: one tensor of each bundle, and one file of the result.

    Args:
        bundles: Folders with the weights.
        weights: One a bundle, sum 1.
        folder: Where the files go.

    Raises:
        DataError: The bundles do not hold the same tensors.
    """
    places = [_places(bundle) for bundle in bundles]
    _check_shapes(bundles, [{name: shape for name, (_, shape) in found.items()} for found in places])
    for path in _files(bundles[0]):
        names = [name for name, (file, _) in places[0].items() if file == path]
        mean = {name: _mean(name, [found[name][0] for found in places], weights) for name in names}
        save_file(mean, folder / path.name, metadata={"format": "pt"})


def _files(bundle: Path) -> list[Path]:
    return weight_files(Located(Base(name=str(bundle)), bundle))


def _places(bundle: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """File and shape of each tensor."""
    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for path in _files(bundle):
        with safe_open(path, framework="pt") as file:
            found |= {name: (path, tuple(file.get_slice(name).get_shape())) for name in file.keys()}  # noqa: SIM118
    return found


def _check_shapes(bundles: Sequence[Path], shapes: Sequence[Mapping[str, tuple[int, ...]]]) -> None:
    for bundle, found in zip(bundles, shapes, strict=True):
        wrong = {name for name in shapes[0].keys() | found.keys() if shapes[0].get(name) != found.get(name)}
        if wrong:
            name = min(wrong)
            raise DataError(
                f"{bundles[0]} and {bundle} do not hold the same tensors: {name} is {shapes[0].get(name, 'absent')} "
                f"and {found.get(name, 'absent')}" + (f" ({len(wrong)} such tensors)" if len(wrong) > 1 else ""),
                expected="judges of one architecture",
            )


def _mean(name: str, files: Sequence[Path], weights: Sequence[float]) -> Tensor:
    total, dtype = torch.zeros(()), torch.float32
    for at, (path, weight) in enumerate(zip(files, weights, strict=True)):
        with safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(name)
        dtype = tensor.dtype if at == 0 else dtype
        total = total + weight * tensor.double()
    return total.to(dtype).contiguous()
