"""Which row is this? Short hashes of a row's texts: labels meet their rows by them, and a judge knows what it has seen.

An id names a row, but files get shuffled, cut and renumbered; the hash says that the text behind an id is still the one
that was judged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl

from tiebreak import comparisons

HEX: Final = 16
"""Digits of a hash: 64 bits, so that among a million rows two differ with a probability of 1 - 3e-8."""

TRAINED: Final = "trained_rows.txt"
"""File of a bundle: the sorted `unordered` hashes of the rows that the judge was trained on, one a line."""


def content(table: pl.DataFrame) -> pl.Series:
    """A hash of prompt, first answer and second answer of each row of comparisons, in this order."""
    return pl.Series("content", [_hash(row) for row in _rows(table)], dtype=pl.String)


def unordered(table: pl.DataFrame) -> pl.Series:
    """A hash of each row that is the same for its swapped twin: a judge that was trained on one has seen the other."""
    hashes = (min(_hash(row), _hash((row[0], row[2], row[1]))) for row in _rows(table))
    return pl.Series("unordered", hashes, dtype=pl.String)


def trained_rows(table: pl.DataFrame) -> bytes:
    """The file `TRAINED` for a judge that was trained on these rows."""
    return trained_file(unordered(table))


def trained_file(hashes: Iterable[str]) -> bytes:
    """The file `TRAINED` for a judge that was trained on the rows with these `unordered` hashes, in any order."""
    return "".join(f"{text}\n" for text in sorted(set(hashes))).encode()


def read_trained(directory: Path) -> frozenset[str] | None:
    """The `unordered` hashes of the rows that the judge of a bundle was trained on; None where it does not say."""
    path = directory / TRAINED
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else None


def _rows(table: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    return table.select(comparisons.TEXTS).iter_rows()


def _hash(row: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:HEX]
