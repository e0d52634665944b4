"""The identity of weights, cheap enough to be checked at every load."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

WHOLE: Final = 1 << 30
"""Files up to this many bytes are read whole."""

_BLOCK: Final = 1 << 12
_BLOCKS: Final = 2048


def digest(files: list[Path]) -> str:
    """A sha256 over names, sizes and contents of weight files.

    A file of more than 1 GiB is sampled: its first block (where the header of safetensors and GGUF begins) and 2,048
    blocks of 4 KiB spread evenly. Another checkpoint of the same shape differs nearly everywhere, so that it is told
    apart for the price of 8 MiB; a few bytes altered between the blocks are not seen.
    """
    total = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        size = path.stat().st_size
        total.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as stream:
            if size <= WHOLE:
                total.update(hashlib.file_digest(stream, "sha256").digest())
                continue
            for number in range(_BLOCKS):
                stream.seek(number * (size - _BLOCK) // (_BLOCKS - 1))
                total.update(stream.read(_BLOCK))
    return total.hexdigest()
