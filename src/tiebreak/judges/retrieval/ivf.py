"""Votes in lists around centroids; a query looks into the lists whose centroids are nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import numpy as np

from tiebreak.judges.retrieval.index import Index, Shape, blocks, damaged, library

ROUNDS: Final = 8
"""Of k-means; more change recall at equal effort by less than a hundredth."""
A_LIST: Final = 40
"""Vectors that k-means sees for each centroid."""

EFFORTS: Final = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Lists to look into, in steps fine enough that recall is not bought twice over."""


class Inverted(Index):
    """Inverted lists of float16 vectors (IVF; Sivic and Zisserman 2003, as faiss computes it).

    Centroids are learned once. Vectors that are added later go to the nearest one: where those are of another kind than
    the first, recall falls, which is why it is measured again after every addition.
    """

    kind = "ivf"

    def __init__(self, centroids: np.ndarray) -> None:
        faiss = library()
        dimensions = centroids.shape[1]
        self._nearest = faiss.IndexFlatIP(dimensions)
        self._nearest.add(np.ascontiguousarray(centroids, dtype=np.float32))
        self.faiss = faiss.IndexIVFScalarQuantizer(
            self._nearest, dimensions, len(centroids), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        self.faiss.is_trained = True
        self.centroids = centroids
        self.lists = np.zeros(0, dtype=np.int32)

    @classmethod
    def build(cls, vectors: np.ndarray, *, seed: int = 0) -> Self:
        """Learn centroids from a sample and deal all vectors to them."""
        faiss = library()
        count = lists_for(len(vectors))
        sample = np.random.default_rng(seed).choice(len(vectors), min(len(vectors), A_LIST * count), replace=False)
        means = faiss.Kmeans(
            vectors.shape[1], count, niter=ROUNDS, spherical=True, seed=seed, max_points_per_centroid=A_LIST,
            min_points_per_centroid=1,
        )  # fmt: skip
        means.train(np.ascontiguousarray(vectors[np.sort(sample)], dtype=np.float32))
        made = cls(np.asarray(means.centroids, dtype=np.float32))
        made.add(vectors)
        return made

    @classmethod
    def restore(cls, shape: Shape, vectors: np.ndarray, tensors: Mapping[str, np.ndarray]) -> Self:
        """Put the lists together again; nothing is learned and nothing assigned anew."""
        centroids, lists = _checked(shape, vectors, tensors)
        made = cls(centroids)
        made._put(vectors, lists)
        made.effort = shape.effort
        return made

    def add(self, vectors: np.ndarray) -> None:
        """Append vectors, each to the list of its nearest centroid."""
        nearest = [self._nearest.search(block, 1)[1].ravel().astype(np.int32) for _, block in blocks(vectors)]
        self._put(vectors, np.concatenate(nearest) if nearest else np.zeros(0, dtype=np.int32))

    def _put(self, vectors: np.ndarray, lists: np.ndarray) -> None:
        pointer = library().swig_ptr
        for start, block in blocks(vectors):
            here = lists[start : start + len(block)].astype(np.int64)
            numbers = np.arange(len(self), len(self) + len(block), dtype=np.int64)
            self.faiss.add_core(len(block), pointer(block), pointer(numbers), pointer(here))
        self.lists = np.concatenate([self.lists, lists])

    def tensors(self) -> dict[str, np.ndarray]:
        """The centroids, and the list of each vector."""
        return {"centroids": self.centroids, "lists": self.lists}

    def shape(self) -> Shape:
        """What the bundle says of it."""
        return Shape(kind="ivf", lists=len(self.centroids), effort=self.effort)

    @property
    def efforts(self) -> tuple[int, ...]:
        """Numbers of lists to look into."""
        most = len(self.centroids)
        return tuple(sorted({min(number, most) for number in (*EFFORTS, most)}))

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        self.faiss.nprobe = max(self.effort, 1)
        return super()._search(queries, k)


def lists_for(votes: int) -> int:
    """Lists for so many vectors: four times the root, a power of two, so that a list holds some hundreds of them."""
    return int(2 ** np.clip(round(np.log2(4 * np.sqrt(max(votes, 1)))), 2, 16)) if votes >= A_LIST else 1


def _checked(shape: Shape, vectors: np.ndarray, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    try:
        centroids, lists = tensors["centroids"], tensors["lists"]
    except KeyError as error:
        raise damaged(f"no {error}") from error
    fits = centroids.shape == (shape.lists, vectors.shape[1]) and lists.shape == (len(vectors),)
    if not fits or centroids.dtype != np.float32 or lists.dtype != np.int32 or not len(centroids):
        raise damaged("centroids and lists do not fit the votes")
    if not np.isfinite(centroids).all() or (len(lists) and not 0 <= lists.min() <= lists.max() < len(centroids)):
        raise damaged("a list that is not there")
    return centroids, lists
