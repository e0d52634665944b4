"""Votes in lists around centroids; a query looks into the lists whose centroids are nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np

from tiebreak.judges.retrieval.index import Index, Shape, blocks, damaged, library

ROUNDS: Final = 8
"""Of k-means; more change recall at equal effort by less than a hundredth."""
A_LIST: Final = 40
"""Vectors that k-means sees for each centroid."""
A_CODE: Final = 512
"""Vectors that k-means sees for each of the 16 centroids of a code."""

EFFORTS: Final = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072)
"""Lists to look into, in steps fine enough that recall is not bought twice over."""

BITS: Final = 4
"""Of a code: 16 centroids for each pair of dimensions, so that a table of products fits a register."""
SHORTLIST: Final = 100
"""Votes that the codes put forward at least; the vectors themselves say which are the nearest."""
_QUERIES: Final = 64


class Inverted(Index):
    """Inverted lists of 4-bit codes, whose best are looked at again with the votes' own vectors.

    Lists are those of Sivic and Zisserman (2003), codes those of product quantisation (Jegou et al. 2011), scanned with
    tables in registers (Andre et al. 2015), all as faiss computes them. Centroids and codebook are learned once.
    Vectors that are added later go to the nearest centroid: where those are of another kind than the first, recall
    falls, which is why it is measured again after every addition.

    Args:
        centroids: float32 (lists, d).
        codebook: float32 (d / step, 16, step), where step is 2, or 1 for an odd d.
    """

    kind = "ivf"

    def __init__(self, centroids: np.ndarray, codebook: np.ndarray) -> None:
        faiss = library()
        dimensions = centroids.shape[1]
        self._nearest = faiss.IndexFlatIP(dimensions)
        self._nearest.add(np.ascontiguousarray(centroids, dtype=np.float32))
        self._codes = faiss.IndexIVFPQ(
            self._nearest, dimensions, len(centroids), len(codebook), BITS, faiss.METRIC_INNER_PRODUCT
        )
        self._codes.by_residual = False
        faiss.copy_array_to_vector(np.ascontiguousarray(codebook, dtype=np.float32).ravel(), self._codes.pq.centroids)
        self._codes.is_trained = True
        self.centroids = centroids
        self.codebook = codebook
        self.lists = np.zeros(0, dtype=np.int32)
        self.vectors = np.zeros((0, dimensions), dtype=np.float16)
        self._fast: Any = None

    @classmethod
    def build(cls, vectors: np.ndarray, *, seed: int = 0) -> Self:
        """Learn centroids and codebook from a sample and deal all vectors to the lists."""
        faiss = library()
        count, dimensions = lists_for(len(vectors)), vectors.shape[1]
        size = min(len(vectors), max(A_LIST * count, A_CODE << BITS))
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), size, replace=False))
        sample = np.ascontiguousarray(vectors[rows], dtype=np.float32)
        means = faiss.Kmeans(
            dimensions, count, niter=ROUNDS, spherical=True, seed=seed, max_points_per_centroid=A_LIST,
            min_points_per_centroid=1,
        )  # fmt: skip
        means.train(sample)
        step = _step(dimensions)
        quantiser = faiss.ProductQuantizer(dimensions, dimensions // step, BITS)
        quantiser.cp.seed, quantiser.cp.min_points_per_centroid = seed, 1
        quantiser.cp.max_points_per_centroid = A_CODE
        quantiser.train(np.resize(sample, (max(len(sample), 1 << BITS), dimensions)))
        book = faiss.vector_to_array(quantiser.centroids).reshape(-1, 1 << BITS, step)
        made = cls(np.asarray(means.centroids, dtype=np.float32), book)
        made.add(vectors)
        return made

    @classmethod
    def restore(cls, shape: Shape, vectors: np.ndarray, tensors: Mapping[str, np.ndarray]) -> Self:
        """Put the lists together again; nothing is learned and nothing assigned anew."""
        centroids, codebook, lists = _checked(shape, vectors, tensors)
        made = cls(centroids, codebook)
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
            self._codes.add_core(len(block), pointer(block), pointer(numbers), pointer(here))
        self.lists = np.concatenate([self.lists, lists])
        kept = np.asarray(vectors, dtype=np.float16)
        self.vectors = np.concatenate([self.vectors, kept]) if len(self.vectors) else kept
        self._fast = None

    @property
    def faiss(self) -> Any:
        """The index of faiss that is searched: the codes, packed for fast scans once all are there."""
        if self._fast is None:
            self._fast = library().IndexIVFPQFastScan(self._codes, 32)
        return self._fast

    def __len__(self) -> int:
        return int(self._codes.ntotal)

    def tensors(self) -> dict[str, np.ndarray]:
        """The centroids, the codebook, and the list of each vector."""
        return {"centroids": self.centroids, "codebook": self.codebook, "lists": self.lists}

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
        _, put_forward = self.faiss.search(queries, min(max(SHORTLIST, 2 * k), len(self)))
        parts = [
            self._nearest_of(queries[start : start + _QUERIES], put_forward[start : start + _QUERIES], k)
            for start in range(0, max(len(queries), 1), _QUERIES)
        ]
        products, numbers = (np.concatenate(both) for both in zip(*parts, strict=True))
        return products, numbers

    def _nearest_of(self, queries: np.ndarray, numbers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest among some numbers (n, m), by the vectors themselves; -1 stands for nobody."""
        own = self.vectors[np.maximum(numbers, 0)].astype(np.float32)
        products = np.where(numbers < 0, -np.inf, np.einsum("nmd,nd->nm", own, queries))
        order = np.lexsort((numbers, -products), axis=1)[:, :k]
        return np.take_along_axis(products, order, axis=1), np.take_along_axis(numbers, order, axis=1)


def lists_for(votes: int) -> int:
    """Lists for so many vectors: four times the root, a power of two, so that a list holds some hundreds of them."""
    return int(2 ** np.clip(round(np.log2(4 * np.sqrt(max(votes, 1)))), 2, 16)) if votes >= A_LIST else 1


def _step(dimensions: int) -> int:
    """Dimensions that share a code."""
    return 1 if dimensions % 2 else 2


def _checked(
    shape: Shape, vectors: np.ndarray, tensors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        centroids, codebook, lists = tensors["centroids"], tensors["codebook"], tensors["lists"]
    except KeyError as error:
        raise damaged(f"no {error}") from error
    dimensions = vectors.shape[1]
    step = _step(dimensions)
    fits = centroids.shape == (shape.lists, dimensions) and lists.shape == (len(vectors),)
    fits &= codebook.shape == (dimensions // step, 1 << BITS, step)
    fits &= centroids.dtype == codebook.dtype == np.float32 and lists.dtype == np.int32
    if not fits or not len(centroids):
        raise damaged("centroids, codebook and lists do not fit the votes")
    if not (np.isfinite(centroids).all() and np.isfinite(codebook).all()):
        raise damaged("numbers that are not finite")
    if len(lists) and not 0 <= lists.min() <= lists.max() < len(centroids):
        raise damaged("a list that is not there")
    return centroids, codebook, lists
