"""What the wording itself says: a weight for each known word, sign and pair of neighbours.

An answer becomes a vector of unit length over the vocabulary, (1 + log count) x rarity a term, and its strength is the
weighted sum. The difference of two strengths is odd to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from tiebreak.judges.features.words import Words

_SLOT_BITS: Final = 18
_SLOT_SHIFT: Final = np.uint64(64 - _SLOT_BITS)


@dataclass(frozen=True)
class Terms:
    """A sparse matrix: one entry for each different term of each row, sorted by row, then by term.

    Attributes:
        rows: The row of each entry.
        terms: The number of its term in the vocabulary.
        values: The entry: how often the term stands in the row, or what that counts.
        height: Rows of the matrix.
    """

    rows: np.ndarray
    terms: np.ndarray
    values: np.ndarray
    height: int

    def picked(self, rows: np.ndarray) -> Terms:
        """Some rows, in the order asked for."""
        first, last = np.searchsorted(self.rows, rows), np.searchsorted(self.rows, rows, side="right")
        sizes = last - first
        entries = np.arange(sizes.sum()) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
        return Terms(np.repeat(np.arange(len(rows)), sizes), self.terms[entries], self.values[entries], len(rows))

    def weighed(self, rarity: np.ndarray) -> Terms:
        """From counts to vectors of unit length: (1 + log count) x rarity of the term."""
        values = (1 + np.log(self.values)) * rarity[self.terms]
        squares = np.bincount(self.rows, weights=values * values, minlength=self.height)
        return Terms(self.rows, self.terms, values / np.sqrt(squares)[self.rows], self.height)


@dataclass(frozen=True)
class Vocabulary:
    """Known terms, all different: a term is one token, or two with a space between them.

    Polars does not promise its hashes from one version to the next, so terms are kept as text and hashed on loading.
    """

    terms: tuple[str, ...]

    def count(self, tokens: Words) -> Terms:
        """How often each known term stands in each row."""
        size = max(len(self.terms), 1)
        keys = np.sort(np.concatenate([self._keys(tokens, size), self._keys(tokens.runs(2), size)]))
        firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        rows, terms = np.divmod(keys[firsts], size)
        return Terms(rows, terms, np.diff(np.append(firsts, len(keys))), tokens.height)

    def _keys(self, tokens: Words, size: int) -> np.ndarray:
        """Row x size + term of every known token or run."""
        hashes, order, starts = self._index
        slots = tokens.hashes >> _SLOT_SHIFT
        places = starts[slots]
        left = starts[slots + np.uint64(1)] - places
        found = [np.zeros(0, np.int64)]
        candidates = np.flatnonzero(left)
        while len(candidates):
            hit = candidates[hashes[places[candidates]] == tokens.hashes[candidates]]
            found.append(tokens.rows[hit].astype(np.int64) * size + order[places[hit]])
            left[candidates] -= 1
            places[candidates] += 1
            candidates = candidates[left[candidates] > 0]
        return np.concatenate(found)

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hashes in order, the term of each, and where the hashes with given upper bits begin."""
        hashes = self._hashes()
        order = np.argsort(hashes)
        slots = (hashes[order] >> _SLOT_SHIFT).astype(np.int64)
        return hashes[order], order, np.searchsorted(slots, np.arange((1 << _SLOT_BITS) + 1)).astype(np.int32)

    def _hashes(self) -> np.ndarray:
        """The terms as `Words` hashes tokens and runs of two."""
        tokens = pl.Series([token for term in self.terms for token in term.split(" ")], dtype=pl.String)
        sizes = np.array([term.count(" ") + 1 for term in self.terms], dtype=np.int64)
        rows = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
        words = Words(tokens.hash(seed=0).to_numpy(), rows, len(sizes))
        hashes: np.ndarray = words.hashes[np.cumsum(sizes) - sizes]
        pairs = words.runs(2)
        hashes[pairs.rows.astype(np.int64)] = pairs.hashes
        return hashes


@dataclass(frozen=True)
class Wording:
    """What each term of a vocabulary adds to the log-odds of the answer that has it.

    Attributes:
        vocabulary: The terms.
        rarity: What an occurrence counts, larger for rarer terms.
        weight: What it adds.
    """

    vocabulary: Vocabulary
    rarity: np.ndarray
    weight: np.ndarray

    def contributions(self, tokens: Words) -> Terms:
        """What each term adds in each row."""
        found = self.vocabulary.count(tokens).weighed(self.rarity)
        return Terms(found.rows, found.terms, self.weight[found.terms] * found.values, found.height)

    def strengths(self, tokens: Words) -> np.ndarray:
        """The strength of each row: the sum of its contributions."""
        found = self.contributions(tokens)
        return np.bincount(found.rows, weights=found.values, minlength=found.height)
