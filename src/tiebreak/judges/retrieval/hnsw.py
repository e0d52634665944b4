"""Votes as a graph of neighbours on several levels; a query walks towards what is nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np

from tiebreak.judges.retrieval.index import Index, Shape, blocks, damaged, library

LINKS: Final = 16
CONSTRUCTION: Final = 100
"""Candidates held while a vector is linked."""
_MOST_LEVELS: Final = 32


class Graph(Index):
    """A navigable small world (HNSW; Malkov and Yashunin 2016, as faiss computes it), which grows without training."""

    kind = "hnsw"
    goal = 0.985
    """Higher than of lists: a vote that is in the graph is found more easily than a comparison that is not."""

    def __init__(self, dimensions: int, links: int = LINKS) -> None:
        faiss = library()
        self.links = links
        self.faiss = faiss.IndexHNSWFlat(dimensions, links, faiss.METRIC_INNER_PRODUCT)
        self.faiss.hnsw.efConstruction = CONSTRUCTION

    @classmethod
    def build(cls, vectors: np.ndarray, *, seed: int = 0) -> Self:
        """Link all vectors, in order. With one thread the graph is the same each time."""
        made = cls(vectors.shape[1])
        made.add(vectors)
        return made

    @classmethod
    def restore(cls, shape: Shape, vectors: np.ndarray, tensors: Mapping[str, np.ndarray]) -> Self:
        """Put the graph together again.

        Raises:
            BundleError: A link leads nowhere, or to a vector that is not on that level.
        """
        made = cls(vectors.shape[1], shape.links)
        places = _per_level(made.faiss.hnsw)
        levels, neighbours, offsets = _checked(vectors, tensors, places)
        faiss, graph = library(), made.faiss.hnsw
        for _, block in blocks(vectors):
            faiss.downcast_index(made.faiss.storage).add(block)
        faiss.copy_array_to_vector(levels, graph.levels)
        faiss.copy_array_to_vector(offsets.astype(np.uint64), graph.offsets)
        faiss.copy_array_to_vector(neighbours, graph.neighbors)
        graph.entry_point = int(tensors["entry"][0])
        graph.max_level = int(levels.max()) - 1
        made.faiss.ntotal = len(vectors)
        made.effort = shape.effort
        return made

    def add(self, vectors: np.ndarray) -> None:
        """Append vectors, each linked to what is near."""
        for _, block in blocks(vectors):
            self.faiss.add(block)

    def tensors(self) -> dict[str, np.ndarray]:
        """Levels of each vector, its links on each, and where every search begins."""
        to_array, graph = library().vector_to_array, self.faiss.hnsw
        return {
            "levels": to_array(graph.levels), "neighbours": to_array(graph.neighbors),
            "entry": np.array([graph.entry_point], dtype=np.int64),
        }  # fmt: skip

    def shape(self) -> Shape:
        """What the bundle says of it."""
        return Shape(kind="hnsw", links=self.links, effort=self.effort)

    @property
    def efforts(self) -> tuple[int, ...]:
        """Numbers of candidates to hold."""
        return (32, 64, 128, 256, 512, 1024)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        self.faiss.hnsw.efSearch = max(self.effort, k)
        return super()._search(queries, k)


def _per_level(graph: Any) -> np.ndarray:
    """Where the links of each level begin within those of a vector, for all levels that there can be."""
    table: np.ndarray = library().vector_to_array(graph.cum_nneighbor_per_level).astype(np.int64)
    return table[: _MOST_LEVELS + 1]


def _checked(
    vectors: np.ndarray, tensors: Mapping[str, np.ndarray], places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels, links and offsets, if a walk along them stays within the arrays."""
    try:
        levels, neighbours, entry = tensors["levels"], tensors["neighbours"], tensors["entry"]
    except KeyError as error:
        raise damaged(f"no {error}") from error
    count = len(vectors)
    typed = levels.dtype == neighbours.dtype == np.int32 and entry.dtype == np.int64
    if not typed or levels.shape != (count,) or neighbours.ndim != 1 or entry.shape != (1,) or not count:
        raise damaged("levels and links do not fit the votes")
    if not 1 <= levels.min() <= levels.max() < len(places):
        raise damaged("a vector on a level that there is not")
    offsets = np.concatenate([[0], np.cumsum(places[levels])])
    if len(neighbours) != offsets[-1] or not -1 <= neighbours.min(initial=-1) <= neighbours.max(initial=-1) < count:
        raise damaged("a link to a vector that there is not")
    if not 0 <= entry[0] < count or levels[entry[0]] != levels.max():
        raise damaged("the entry is not on the highest level")
    for level in range(1, int(levels.max())):
        high = np.flatnonzero(levels > level)
        there = neighbours[offsets[high][:, None] + np.arange(places[level], places[level + 1])]
        if (levels[there[there >= 0]] <= level).any():
            raise damaged("a link to a vector that is not on that level")
    return levels, neighbours, offsets
