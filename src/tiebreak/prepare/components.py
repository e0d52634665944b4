"""Connected components of a graph given as edges."""

from __future__ import annotations

import numpy as np
import polars as pl


def components(nodes: int, left: np.ndarray, right: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The smallest node of each node's component, as an array of shape (nodes,).

    Args:
        nodes: How many nodes there are; they are numbered from 0.
        left: One end of each edge.
        right: The other end.
        start: Components found earlier, to which the edges are added.
    """
    root = np.arange(nodes) if start is None else start.copy()
    while True:
        ends = root[left], root[right]
        low, high = np.minimum(*ends), np.maximum(*ends)
        open_edges = low != high
        if not open_edges.any():
            return root
        np.minimum.at(root, high[open_edges], low[open_edges])
        while not np.array_equal(root, shorter := root[root]):
            root = shorter


def equal(values: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Edges that connect all rows of one value: each row to the first of its value. Nulls connect nothing."""
    rows = pl.DataFrame({"value": values}).with_row_index("row").drop_nulls()
    edges = rows.select(pl.col("row").first().over("value").alias("first"), "row").cast(pl.Int64)
    return edges["first"].to_numpy(), edges["row"].to_numpy()
