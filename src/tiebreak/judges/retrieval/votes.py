"""The votes that are remembered: vectors, labels, and which row of which group each was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as save_tensors

from tiebreak import comparisons, row_hashes
from tiebreak.errors import BundleError
from tiebreak.judges.retrieval.encoder import Encoder

FILE: Final = "votes.safetensors"


@dataclass(frozen=True)
class Read:
    """What the encoder made of a table.

    Attributes:
        prompt: float32 (rows, d): unit vectors of the prompts.
        difference: float32 (rows, d): vector of answer A less that of answer B. Short where the answers say the same,
            which is what makes such a vote count little for a side.
        tokens: int64 (3, rows): tokens of prompt, A and B.
        kept: int64 (3, rows): those that were read.
    """

    prompt: np.ndarray
    difference: np.ndarray
    tokens: np.ndarray
    kept: np.ndarray


def read(table: pl.DataFrame, encoder: Encoder, advance: Callable[[int], None] | None = None) -> Read:
    """Encode the texts of a table of comparisons; the turns of a conversation are one text each side.

    Args:
        table: Validated comparisons.
        encoder: What makes the vectors.
        advance: Called with the number of texts just finished; three a row.
    """
    texts = [_joined(turns) for name in comparisons.TEXTS for turns in table[name].to_list()]
    found = encoder.encode(texts, advance)
    prompt, a, b = found.vectors.reshape(3, table.height, encoder.dimensions)
    return Read(prompt, a - b, found.tokens.reshape(3, table.height), found.kept.reshape(3, table.height))


def _joined(turns: Sequence[str | None]) -> str:
    return "\n\n".join(text or "" for text in turns)


@dataclass(frozen=True)
class Votes:
    """Labelled comparisons without their texts.

    Attributes:
        prompt: float16 (votes, d).
        difference: float16 (votes, d).
        targets: float32 (votes, 3): hard or soft labels, times the weight of the vote.
        row: uint64 (votes,): hash of the texts, the same for the swapped twin.
        group: uint64 (votes,): hash of the group's name; 0 for none.
    """

    prompt: np.ndarray
    difference: np.ndarray
    targets: np.ndarray
    row: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, table: pl.DataFrame, vectors: Read) -> Self:
        """From labelled comparisons and their vectors."""
        weight = table["weight"].fill_null(1.0).to_numpy()
        targets = comparisons.targets(table) * weight[:, None]
        return cls(
            vectors.prompt.astype(np.float16), vectors.difference.astype(np.float16), targets.astype(np.float32),
            rows_of(table), groups_of(table),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.row)

    def picked(self, rows: np.ndarray) -> Votes:
        """The votes at these places."""
        return Votes(*(getattr(self, field.name)[rows] for field in fields(self)))

    def joined(self, more: Votes) -> Votes:
        """These votes, then the others."""
        return Votes(
            *(np.concatenate([getattr(self, field.name), getattr(more, field.name)]) for field in fields(self))
        )

    def prior(self) -> tuple[float, float, float]:
        """Shares of the labels, weighted; a and b share theirs, so that no side is preferred."""
        a, b, tie = (float(mass) for mass in self.targets.astype(np.float64).sum(axis=0))
        side, total = (a + b) / 2, a + b + tie
        return side / total, side / total, tie / total

    def dump(self) -> bytes:
        """The file of a bundle."""
        return save_tensors({field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """From the file of a bundle.

        Raises:
            BundleError: It is damaged.
        """
        try:
            tensors = load_file(path)
            made = cls(**{field.name: tensors[field.name] for field in fields(cls)})
        except (SafetensorError, OSError, KeyError) as error:
            raise BundleError(f"{FILE} is damaged: {error}", expected="the votes of a retrieval judge") from error
        count, wide = len(made.row), made.prompt.shape[-1]
        wanted = {"prompt": (count, wide), "difference": (count, wide), "targets": (count, 3), "row": (count,)}
        shapes = all(getattr(made, name).shape == shape for name, shape in wanted.items())
        good = shapes and made.group.shape == (count,) and made.row.dtype == made.group.dtype == np.uint64
        if not good or not all(np.isfinite(getattr(made, name)).all() for name in ("prompt", "difference", "targets")):
            raise BundleError(f"{FILE}: arrays that do not fit", expected="the votes of a retrieval judge")
        if (made.targets < 0).any() or not made.targets.any():
            raise BundleError(f"{FILE}: labels that are none", expected="masses of a, b and tie")
        return made


def rows_of(table: pl.DataFrame) -> np.ndarray:
    """The `unordered` hashes of the rows, as uint64."""
    return np.array([int(text, 16) for text in row_hashes.unordered(table)], dtype=np.uint64)


def groups_of(table: pl.DataFrame) -> np.ndarray:
    """Hashes of the groups' names, uint64; 0 where a row has none."""
    names = table["group"].to_list()
    return np.array([0 if name is None else _hash(name) for name in names], dtype=np.uint64)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) or 1
