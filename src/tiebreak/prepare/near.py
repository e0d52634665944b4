"""Near-duplicate texts: shingles, MinHash LSH for candidates, exact Jaccard similarity for the verdict.

A text is the set of its shingles: three words in a row, or five characters in scripts that put no spaces between words.
Punctuation does not count. Candidates come from MinHash LSH (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, ch. 3); each is then measured exactly, so that a false candidate never joins two texts.

A shingle that stands in very many texts (more than `BOILERPLATE_SHARE` of them, and more than `BOILERPLATE_TEXTS`) is
boilerplate, such as a common instruction above every question. It says nothing about likeness and is left out, so that
a long common preamble does not make all texts near-duplicates of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from rensa import RMinHash

BOILERPLATE_SHARE: Final = 0.1
BOILERPLATE_TEXTS: Final = 50
WORDS: Final = 3
CHARACTERS: Final = 5

_PERMUTATIONS: Final = 128
_RECALL: Final = 0.999
"""Chance that a pair exactly at the threshold becomes a candidate."""
_REACH: Final = 64
"""Texts of one LSH bucket are compared with this many neighbours each, so that no bucket costs quadratic time."""
_DOUBT: Final = 0.16
"""How far below the threshold the MinHash estimate may lie; four standard errors at 125 permutations."""
_SEED: Final = 20_260
_CHUNK: Final = 2_048
_ELEMENTS: Final = 4_000_000
_HASH_BITS: Final = np.uint64(52)
_HASH_MASK: Final = (np.uint64(1) << _HASH_BITS) - np.uint64(1)

_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TOKEN: Final = rf"[{_UNSPACED}]|[\w--[{_UNSPACED}]]+"


@dataclass(frozen=True)
class Shingles:
    """The shingles of many texts, sorted and unique within each text.

    Attributes:
        values: All shingles as 52-bit hashes, text after text.
        offsets: Where each text begins; one more than there are texts.
    """

    values: np.ndarray
    offsets: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """How many shingles each text has."""
        return np.diff(self.offsets)


def shingle(*columns: pl.Series) -> Shingles:
    """The shingles of normalised texts; with several columns each row has the shingles of all its texts."""
    rows = len(columns[0])
    parts = [_shingle_chunk([column[at : at + _CHUNK] for column in columns]) for at in range(0, rows, _CHUNK)]
    values = np.concatenate([values for values, _ in parts]) if parts else np.empty(0, np.uint64)
    sizes = np.concatenate([sizes for _, sizes in parts]) if parts else np.empty(0, np.int64)
    return Shingles(values, _offsets(sizes))


def _offsets(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _shingle_chunk(columns: list[pl.Series]) -> tuple[np.ndarray, np.ndarray]:
    rows = len(columns[0])
    texts = pl.concat(columns)
    tokens = texts.str.extract_all(_TOKEN)
    counts = tokens.list.len().to_numpy().astype(np.int64)
    flat = tokens.filter(counts > 0).explode()
    owners = np.repeat(np.arange(len(texts)), counts)
    ends = np.cumsum(counts)[owners]
    places = np.arange(len(owners))
    widths = np.where(flat.str.contains(f"^[{_UNSPACED}]").to_numpy(), CHARACTERS, WORDS)
    whole = places + widths <= ends
    # A text too short for one shingle is one shingle as a whole.
    short = (np.bincount(owners[whole], minlength=len(texts)) == 0)[owners] & (places == ends - counts[owners])
    widths[short] = counts[owners][short]
    kept = whole | short
    hashed = _rolled(flat.hash(seed=_SEED).to_numpy(), places[kept], widths[kept])
    # Row number above, hash below: one flat sort makes the shingles sorted and unique within each row.
    numbers = (owners[kept] % rows).astype(np.uint64)
    keyed = np.unique((numbers << _HASH_BITS) | (hashed >> (np.uint64(64) - _HASH_BITS)))
    sizes = np.bincount((keyed >> _HASH_BITS).astype(np.int64), minlength=rows)
    return keyed & _HASH_MASK, sizes


def _rolled(tokens: np.ndarray, places: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """One hash for each run of tokens that begins at `places`."""
    mixed = np.zeros(len(places), np.uint64)
    for step in range(int(widths.max(initial=0))):
        longer = widths > step
        mixed[longer] = _mix(mixed[longer], tokens[places[longer] + step])
    return mixed


def _mix(state: np.ndarray, value: np.ndarray) -> np.ndarray:
    state = (state ^ value) * np.uint64(0x9E3779B97F4A7C15)
    mixed: np.ndarray = state ^ (state >> np.uint64(29))
    return mixed


def without_boilerplate(shingles: Shingles) -> tuple[Shingles, int]:
    """Leave out the shingles that stand in very many texts; also says how many there were."""
    texts = len(shingles.sizes)
    limit = max(BOILERPLATE_TEXTS, int(texts * BOILERPLATE_SHARE))
    ordered = np.sort(shingles.values)
    common = np.unique(ordered[limit:][ordered[limit:] == ordered[: max(len(ordered) - limit, 0)]])
    if not len(common):
        return shingles, 0
    at = np.minimum(np.searchsorted(common, shingles.values), len(common) - 1)
    kept = common[at] != shingles.values
    rows = np.repeat(np.arange(texts), shingles.sizes)[kept]
    return Shingles(shingles.values[kept], _offsets(np.bincount(rows, minlength=texts))), len(common)


def at_least(shingles: Shingles, least: int) -> Shingles:
    """Empty the texts that have fewer than `least` shingles, so that they are like no other."""
    sizes = np.where(shingles.sizes >= least, shingles.sizes, 0)
    return Shingles(shingles.values[np.repeat(sizes > 0, shingles.sizes)], _offsets(sizes))


def jaccard(shingles: Shingles, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Exact Jaccard similarity of pairs of texts, given by their numbers; 0 where both have no shingle."""
    sizes = shingles.sizes
    both = sizes[left] + sizes[right]
    shared = np.empty(len(left), np.int64)
    start = 0
    while start < len(left):
        fitting = int(np.searchsorted(np.cumsum(both[start : start + 4_096]), _ELEMENTS)) or 1
        part = slice(start, start + fitting)
        keys = np.sort(np.concatenate([_keyed(shingles, left[part]), _keyed(shingles, right[part])]))
        twice = keys[1:][keys[1:] == keys[:-1]] >> _HASH_BITS
        shared[part] = np.bincount(twice.astype(np.int64), minlength=len(left[part]))
        start += fitting
    return np.asarray(shared / np.maximum(both - shared, 1), np.float64)


def _keyed(shingles: Shingles, texts: np.ndarray) -> np.ndarray:
    """The shingles of the given texts, each below the number of its place in `texts`."""
    sizes = shingles.sizes[texts]
    starts = np.cumsum(sizes) - sizes
    numbers = np.repeat(np.arange(len(texts)), sizes)
    places = np.arange(int(sizes.sum())) - starts[numbers] + shingles.offsets[texts][numbers]
    return np.asarray(shingles.values[places] | (numbers.astype(np.uint64) << _HASH_BITS))


def candidates(shingles: Shingles, threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of texts that may be alike, in rounds; within a round no pair occurs twice.

    The first round holds the closest neighbours in each bucket. Who only wants components may drop, in later rounds,
    the pairs that are connected already.
    """
    filled = np.flatnonzero(shingles.sizes)
    if len(filled) < 2:
        return
    rows = _band_rows(threshold)
    signatures = _signatures(shingles, filled)
    hashed = [_band_keys(signatures[:, at : at + rows]) for at in range(0, _PERMUTATIONS - rows + 1, rows)]
    # Within a bucket those come together that agree in the next band too: neighbours are the likeliest pairs.
    orders = [np.lexsort((following, keys)) for keys, following in zip(hashed, hashed[1:] + hashed[:1], strict=True)]
    bands = [(order, keys[order]) for order, keys in zip(orders, hashed, strict=True)]
    for reach in range(1, _REACH + 1):
        found = [
            np.stack([order[:-reach][same], order[reach:][same]])
            for order, keys in bands
            if (same := keys[:-reach] == keys[reach:]).any()
        ]
        if not found:
            return
        low, high = np.sort(np.concatenate(found, axis=1), axis=0)
        pairs = np.unique(low * len(filled) + high)
        low, high = pairs // len(filled), pairs % len(filled)
        likely = _agreement(signatures, low, high) >= threshold - _DOUBT
        yield filled[low[likely]], filled[high[likely]]


def _band_rows(threshold: float) -> int:
    """The most rows a band may have so that a pair at the threshold still becomes a candidate."""
    recalls = {rows: 1 - (1 - threshold**rows) ** (_PERMUTATIONS // rows) for rows in range(1, 33)}
    return max((rows for rows, recall in recalls.items() if recall >= _RECALL), default=1)


def _signatures(shingles: Shingles, texts: np.ndarray) -> np.ndarray:
    """MinHash signatures of the given texts, uint32 of shape (texts, permutations)."""
    signatures = np.empty((len(texts), _PERMUTATIONS), np.uint32)
    for start in range(0, len(texts), _CHUNK):
        part = texts[start : start + _CHUNK]
        sizes = shingles.sizes[part]
        values = np.concatenate([shingles.values[shingles.offsets[t] : shingles.offsets[t + 1]] for t in part])
        offsets = _offsets(sizes).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(values, offsets, _PERMUTATIONS, _SEED)
        signatures[start : start + len(part)] = matrix.to_rows()
    return signatures


def _band_keys(band: np.ndarray) -> np.ndarray:
    keys = np.zeros(len(band), np.uint64)
    for column in band.T:
        keys = _mix(keys, column.astype(np.uint64))
    return keys


def _agreement(signatures: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    agreement = np.empty(len(left))
    for start in range(0, len(left), 100_000):
        part = slice(start, start + 100_000)
        agreement[part] = (signatures[left[part]] == signatures[right[part]]).mean(axis=1)
    return agreement
