"""The words of every row as hashes: fast sets, runs of words and overlaps, without a Python object for a word.

A key holds the number of its row in the upper bits and the hash of a word below, so one sorted array is a set of words
for every row at once, and two words meet only within one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import polars as pl

from tiebreak.judges.features.properties import WORD

_ROW_BITS: Final = 20
MOST_ROWS: Final = 1 << _ROW_BITS
"""More rows than this do not fit into a key."""

_HASH_BITS: Final = np.uint64(64 - _ROW_BITS)
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Words:
    """Words (or runs of words) of one role of a table, in reading order.

    Attributes:
        hashes: One uint64 a word.
        rows: The row of each word.
        height: Rows of the table.
    """

    hashes: np.ndarray
    rows: np.ndarray
    height: int

    @classmethod
    def of(cls, texts: pl.Series, turns: np.ndarray) -> Self:
        """Find the words of texts that stand below one another, `turns` of them to a row."""
        words = texts.str.to_lowercase().str.extract_all(WORD)
        row_of_text = np.repeat(np.arange(len(turns), dtype=np.uint64), turns)
        rows = np.repeat(row_of_text, words.list.len().to_numpy())
        return cls(words.explode().drop_nulls().hash(seed=0).to_numpy(), rows, len(turns))

    def runs(self, size: int) -> Words:
        """Every run of `size` neighbouring words within a row, as a hash of its own."""
        last = max(len(self.hashes) - size + 1, 0)
        mixed = self.hashes[:last]
        for step in range(1, size):
            mixed = mixed * _FACTOR + self.hashes[step : last + step]
        within = self.rows[:last] == self.rows[size - 1 :]
        return Words(mixed[within], self.rows[:last][within], self.height)

    def counts(self) -> np.ndarray:
        """How many words each row has."""
        return np.bincount(self.rows.astype(np.int64), minlength=self.height).astype(np.float64)

    def bag(self) -> np.ndarray:
        """The set of words of every row: sorted keys without repetition."""
        keys = np.sort((self.rows << _HASH_BITS) | (self.hashes >> np.uint64(_ROW_BITS)))
        return keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys

    def bag_counts(self, bag: np.ndarray) -> np.ndarray:
        """How many keys of a bag each row has."""
        return np.bincount((bag >> _HASH_BITS).astype(np.int64), minlength=self.height).astype(np.float64)


def common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The keys that are in both bags."""
    keys = np.sort(np.concatenate([first, second]), kind="stable")
    twice: np.ndarray = keys[1:][keys[1:] == keys[:-1]]
    return twice
