"""Token sequences of unequal length, without padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Sequences:
    """Many sequences in one array.

    Attributes:
        ids: int32 of shape (tokens,): all sequences, one after another.
        offsets: int64 of shape (n + 1,): sequence i is `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, arrays: Iterable[np.ndarray]) -> Self:
        """From one array a sequence."""
        arrays = [np.asarray(array, dtype=np.int32) for array in arrays]
        return cls(joined(arrays, np.int32), offsets_of(np.array([len(array) for array in arrays], dtype=np.int64)))

    @classmethod
    def concat(cls, parts: Iterable[Sequences]) -> Self:
        """Several, one after another."""
        parts = list(parts)
        lengths = joined([part.lengths for part in parts], np.int64)
        return cls(joined([part.ids for part in parts], np.int32), offsets_of(lengths))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence, int64."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        """Sequence i, as a view."""
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def pick(self, index: np.ndarray) -> Sequences:
        """The sequences at these places, in this order; a place may come twice."""
        index = np.asarray(index, dtype=np.int64)
        lengths = self.lengths[index]
        return Sequences(gather(self.ids, self.offsets[:-1][index], lengths), offsets_of(lengths))


@dataclass(frozen=True)
class Rendered:
    """What came of a table.

    Attributes:
        sequences: One a row.
        ledger: Tokens that each text of a row has and tokens that were kept, Int64; see `Renderer`.
        truncated: bool of shape (rows,): whether some text was cut.
    """

    sequences: Sequences
    ledger: pl.DataFrame
    truncated: np.ndarray


def gather(pool: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The pieces `pool[start : start + length]`, one after another."""
    ends = np.cumsum(lengths)
    shifts = np.repeat(starts - (ends - lengths), lengths)
    result: np.ndarray = pool[shifts + np.arange(len(shifts))]
    return result


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where each of several pieces begins and the last one ends: int64 of shape (n + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def joined(arrays: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    """`np.concatenate` that knows its type where there is nothing to join."""
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
