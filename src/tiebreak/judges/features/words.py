"""The tokens of every row as hashes: fast sets, runs and overlaps, without a Python object for a word.

A key holds the number of its row in the upper bits and the hash of a word below, so one sorted array is a set of words
for every row at once, and two words meet only within one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from tiebreak.judges.features.properties import BEGIN, END, UNIT

_ROW_BITS: Final = 20
_HASH_BITS: Final = np.uint64(64 - _ROW_BITS)
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Words:
    """Tokens (words and signs), words alone, or runs of them: one role of a table, in reading order.

    Attributes:
        hashes: One uint64 a token.
        rows: The row of each token, uint64.
        height: Rows of the table, at most 2^20.
    """

    hashes: np.ndarray
    rows: np.ndarray
    height: int

    def runs(self, size: int) -> Words:
        """Every run of `size` neighbouring words within a row, as a hash of its own."""
        last = max(len(self.hashes) - size + 1, 0)
        mixed = self.hashes[:last]
        for step in range(1, size):
            mixed = mixed * _FACTOR + self.hashes[step : last + step]
        within = self.rows[:last] == self.rows[size - 1 :]
        return Words(mixed[within], self.rows[:last][within], self.height)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many words each row has."""
        return np.bincount(self.rows.astype(np.int64), minlength=self.height).astype(np.float64)

    @cached_property
    def bag(self) -> np.ndarray:
        """The set of words of every row: sorted keys without repetition."""
        keys = np.sort((self.rows << _HASH_BITS) | (self.hashes >> np.uint64(_ROW_BITS)))
        return keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys

    @cached_property
    def distinct(self) -> np.ndarray:
        """How many different words each row has."""
        return sizes(self.bag, self.height)

    def in_common(self, other: Words) -> np.ndarray:
        """How many different words each row has in both."""
        keys = np.sort(np.concatenate([self.bag, other.bag]), kind="stable")
        return sizes(keys[1:][keys[1:] == keys[:-1]], self.height)


def units(lowered: pl.Expr) -> pl.Expr:
    """The tokens of lower-cased texts, between two signs that mark beginning and end."""
    return (pl.lit(BEGIN) + lowered + pl.lit(END)).str.extract_all(UNIT)


def split(texts: pl.Series, turns: np.ndarray) -> tuple[Words, Words]:
    """Split lower-cased texts that stand below one another, `turns` of them to a row.

    Returns:
        All tokens, and the proper words among them.
    """
    found = texts.to_frame("text").select(units(pl.col("text"))).to_series()
    row_of_text = np.repeat(np.arange(len(turns), dtype=np.uint64), turns)
    rows = np.repeat(row_of_text, found.list.len().to_numpy())
    flat = found.explode().drop_nulls()
    hashes = flat.hash(seed=0).to_numpy()
    # Single signs and letters would drown what two texts have in common.
    proper = (flat.str.len_bytes() > 1).to_numpy()
    return Words(hashes, rows, len(turns)), Words(hashes[proper], rows[proper], len(turns))


def sizes(bag: np.ndarray, height: int) -> np.ndarray:
    """How many keys of a bag belong to each row."""
    return np.bincount((bag >> _HASH_BITS).astype(np.int64), minlength=height).astype(np.float64)
