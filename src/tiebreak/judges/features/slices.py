"""Working through a table in slices, one thread a slice. Polars and numpy let go of the interpreter while they work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import polars as pl

Result = TypeVar("Result")

_ROWS: Final = 1024
"""Rows of a slice: large enough for numpy, small enough for the processor's cache."""


def in_slices(function: Callable[[pl.DataFrame], Result], table: pl.DataFrame) -> list[Result]:
    """Apply a function to consecutive slices of a table; results in the order of the rows."""
    slices = list(table.iter_slices(_ROWS)) if table.height else []
    if len(slices) < 2:
        return [function(rows) for rows in slices]
    with ThreadPoolExecutor(min(pl.thread_pool_size(), len(slices))) as pool:
        return list(pool.map(function, slices))
