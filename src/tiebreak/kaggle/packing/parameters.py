"""How many parameters a judge has, from the headers of its files alone."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tiebreak.errors import DataError
from tiebreak.judges.base.names import GGUF

LARGE: Final = 1_000_000_000
"""Parameters above which a judge is hopeless on Kaggle's CPUs."""

_SUFFIX: Final = ".safetensors"
_PACKED: Final = {".weight_packed": 8, ".qweight": 8}
"""Names of tensors whose int32 words hold several weights of 4 bits each."""

_BESIDE: Final = (
    ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx", ".absmax", ".quant_map",
    ".nested_absmax", ".nested_quant_map", ".scales", ".qzeros", ".g_idx",
)  # fmt: skip
_GGUF_BYTES: Final = 0.75
"""Of a parameter in a GGUF file of 4 to 6 bits with its embeddings, on the side of too many parameters."""


def count(files: Iterable[Path]) -> int:
    """Parameters of the weight files among some files; 0 where there are none."""
    total = 0
    for path in files:
        if path.suffix == _SUFFIX:
            total += sum(_of_tensor(name, entry) for name, entry in header(path).items())
        elif path.suffix == GGUF:
            total += round(path.stat().st_size / _GGUF_BYTES)
    return total


def header(path: Path) -> dict[str, Mapping[str, Any]]:
    """The tensors of a safetensors file: name -> dtype, shape and place.

    Raises:
        DataError: It is none.
    """
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            document = json.loads(stream.read(length))
        return {name: entry for name, entry in document.items() if name != "__metadata__"}
    except (struct.error, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is not a safetensors file: {error}", expected="weights as transformers writes"
        ) from error


def _of_tensor(name: str, entry: Mapping[str, Any]) -> int:
    if name.endswith(_BESIDE) or ".quant_state." in name:
        return 0
    numbers: int = math.prod(entry["shape"])
    for suffix, each in _PACKED.items():
        if name.endswith(suffix):
            return numbers * each
    return numbers * 2 if entry["dtype"] == "U8" else numbers
