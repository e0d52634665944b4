"""Which votes are near: flat, HNSW or IVF, by how many there are.

faiss computes, but its own file format is not used: reading it trusts the file. What an index is made of (vectors,
centroids and lists, a graph) lies in the bundle as plain arrays, is checked as numbers, and is put together again.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tiebreak.errors import BundleError, MissingExtraError

FLAT_UP_TO: Final = 50_000
"""Votes up to which every one is looked at: some hundreds of queries a second on two cores, and nothing is missed."""
HNSW_UP_TO: Final = 200_000
"""Votes up to which a graph is built: it needs no training, and grows; beyond that building it takes too long."""

RECALL_AT: Final = 16
LEAST_RECALL: Final = 0.95
PROBES: Final = 512
"""Stored votes that are looked for to measure recall."""

_BLOCK: Final = 65_536


class Shape(BaseModel):
    """What a bundle says of its index.

    Attributes:
        kind: flat, hnsw or ivf.
        lists: Of an IVF index.
        links: Of a node of an HNSW graph, on every level but the lowest, which has twice as many.
        effort: Lists searched (nprobe), or candidates held (efSearch): the least that reaches the goal.
        recall: Share of the 16 nearest votes that it finds, measured on stored votes against flat.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["flat", "hnsw", "ivf"] = "flat"
    lists: Annotated[int, Field(ge=0)] = 0
    links: Annotated[int, Field(ge=0)] = 0
    effort: Annotated[int, Field(ge=0)] = 0
    recall: Annotated[float, Field(ge=0, le=1)] = 1.0


def kind_for(votes: int) -> Literal["flat", "hnsw", "ivf"]:
    """The kind of index that suits so many votes."""
    if votes <= FLAT_UP_TO:
        return "flat"
    return "hnsw" if votes <= HNSW_UP_TO else "ivf"


def library() -> Any:
    """The module faiss.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec("faiss") is None:
        raise MissingExtraError("faiss", "retrieval", "a retrieval judge")
    import faiss

    return faiss


class Index(ABC):
    """Finds the stored vectors of largest inner product with a query."""

    kind: ClassVar[Literal["flat", "hnsw", "ivf"]]
    faiss: Any
    """The index of faiss inside."""

    effort = 0
    goal: ClassVar[float] = 0.965
    """Recall to tune for: above `LEAST_RECALL`, for it is measured on a sample of votes that the index knows."""

    @classmethod
    @abstractmethod
    def build(cls, vectors: np.ndarray, *, seed: int = 0) -> Self:
        """From vectors, float (n, d)."""

    @classmethod
    @abstractmethod
    def restore(cls, shape: Shape, vectors: np.ndarray, tensors: Mapping[str, np.ndarray]) -> Self:
        """From what `tensors` gave and the same vectors.

        Raises:
            BundleError: The arrays are not those of such an index.
        """

    @abstractmethod
    def add(self, vectors: np.ndarray) -> None:
        """Append vectors; their numbers go on from the last one."""

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """What is needed beside the vectors to put it together again."""

    @abstractmethod
    def shape(self) -> Shape:
        """What the bundle says of it."""

    @property
    def efforts(self) -> tuple[int, ...]:
        """The efforts that `tune` tries, in order; none where there is no choice."""
        return ()

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found: tuple[np.ndarray, np.ndarray] = self.faiss.search(queries, k)
        return found

    def __len__(self) -> int:
        return int(self.faiss.ntotal)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of each query.

        Args:
            queries: float32 (n, d).
            k: At most as many as there are.

        Returns:
            Inner products float64 (n, k), falling, NaN where fewer were found, and numbers int64 (n, k), there -1.
        """
        products, numbers = self._search(np.ascontiguousarray(queries, dtype=np.float32), min(k, len(self)))
        return np.where(numbers < 0, np.nan, products.astype(np.float64)), numbers

    def tune(self, vectors: np.ndarray, *, seed: int = 0, least: float | None = None) -> float:
        """Take the least effort that finds enough of the nearest votes of stored votes; give the recall it has."""
        if not self.efforts:
            return 1.0
        picked = np.sort(np.random.default_rng(seed).choice(len(vectors), min(PROBES, len(vectors)), replace=False))
        queries = vectors[picked].astype(np.float32)
        k, least = min(RECALL_AT, len(vectors) - 1), self.goal if least is None else least
        truth = without(exact(vectors, queries, k + 1), picked, k)
        recall = 0.0
        for effort in self.efforts:
            self.effort = effort
            recall = found(without(self.search(queries, k + 1)[1], picked, k), truth)
            if recall >= least:
                break
        return recall


def found(numbers: np.ndarray, truth: np.ndarray) -> float:
    """The share of the true neighbours (n, k) that is among the found ones."""
    hits = [len(np.intersect1d(one, other)) for one, other in zip(numbers, truth, strict=True)]
    return float(np.sum(hits) / truth.size)


def without(numbers: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """The first k numbers of each row that are not the row's own."""
    order = np.argsort(numbers == own[:, None], axis=1, kind="stable")
    kept: np.ndarray = np.take_along_axis(numbers, order, axis=1)[:, :k]
    return kept


def exact(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The numbers of the k nearest by looking at every vector, whatever type they are stored in, in bounded memory."""
    faiss = library()
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    numbers = np.full((len(queries), k), -1, dtype=np.int64)
    for start, block in blocks(vectors):
        products, there = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        both = np.concatenate([best, products], axis=1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(both, order, axis=1)
        numbers = np.take_along_axis(np.concatenate([numbers, there + start], axis=1), order, axis=1)
    return numbers


def blocks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The vectors as float32, some at a time, each block with the number of its first."""
    for start in range(0, len(vectors), _BLOCK):
        yield start, np.ascontiguousarray(vectors[start : start + _BLOCK], dtype=np.float32)


class Flat(Index):
    """Looks at every vector; nothing is missed."""

    kind = "flat"

    def __init__(self, dimensions: int) -> None:
        self.faiss = library().IndexFlatIP(dimensions)

    @classmethod
    def build(cls, vectors: np.ndarray, *, seed: int = 0) -> Self:
        """From vectors; there is nothing to draw."""
        made = cls(vectors.shape[1])
        made.add(vectors)
        return made

    @classmethod
    def restore(cls, shape: Shape, vectors: np.ndarray, tensors: Mapping[str, np.ndarray]) -> Self:
        """From the vectors alone."""
        return cls.build(vectors)

    def add(self, vectors: np.ndarray) -> None:
        """Append vectors."""
        for _, block in blocks(vectors):
            self.faiss.add(block)

    def tensors(self) -> dict[str, np.ndarray]:
        """Nothing: it is its vectors."""
        return {}

    def shape(self) -> Shape:
        """Flat."""
        return Shape()


def damaged(what: str) -> BundleError:
    """The refusal of arrays that are no index."""
    return BundleError(f"index.safetensors: {what}", expected="the index of a retrieval judge, as it was written")
