"""Votes and the index over them: who is near, and who must not be counted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as save_tensors

from tiebreak.errors import BundleError
from tiebreak.judges.retrieval.hnsw import Graph
from tiebreak.judges.retrieval.index import LEAST_RECALL, Flat, Index, Shape, kind_for
from tiebreak.judges.retrieval.ivf import Inverted
from tiebreak.judges.retrieval.kernel import Kernel, Near
from tiebreak.judges.retrieval.votes import FILE as VOTES
from tiebreak.judges.retrieval.votes import Votes

FILE: Final = "index.safetensors"
SPARE: Final = 8
"""Neighbours fetched beyond those that count: for votes that must not be counted."""

_BLOCK: Final = 1024
KINDS: Final[dict[str, type[Index]]] = {"flat": Flat, "hnsw": Graph, "ivf": Inverted}


def combined(prompt: np.ndarray, difference: np.ndarray, mix: float) -> np.ndarray:
    """One vector a comparison; the inner product of two is (1 - mix) * that of the prompts + mix * that of the answers.

    The part that the mix leaves out is left out. Exchanging the answers negates the second part exactly.
    """
    first = prompt * np.float32(np.sqrt(1 - mix))
    second = difference * np.float32(np.sqrt(mix))
    parts = [part for part, share in ((first, 1 - mix), (second, mix)) if share > 0]
    return np.concatenate(parts, axis=1)


class Memory:
    """The votes of a judge, ready to be searched.

    Args:
        votes: In the order of the index.
        index: Over `combined` of them.
        kernel: Whose mix the index is for.
        recall: Of the index, as measured.
    """

    def __init__(self, votes: Votes, index: Index, kernel: Kernel, recall: float = 1.0) -> None:
        self.votes = votes
        self.index = index
        self.kernel = kernel
        self.recall = recall

    @classmethod
    def build(cls, votes: Votes, kernel: Kernel, *, kind: str | None = None, seed: int = 0) -> Memory:
        """Index some votes; `kind` None suits their number."""
        vectors = combined(votes.prompt, votes.difference, kernel.mix)
        index = KINDS[kind or kind_for(len(votes))].build(vectors, seed=seed)
        return cls(votes, index, kernel, index.tune(vectors, seed=seed))

    def added(self, more: Votes, *, seed: int = 0) -> Memory:
        """With more votes. The index grows, or is built anew where another kind suits their number or recall is lost.

        The receiver is used up: its index is the one that grew.
        """
        votes = self.votes.joined(more)
        if kind_for(len(votes)) != self.index.kind and kind_for(len(self.votes)) == self.index.kind:
            return Memory.build(votes, self.kernel, seed=seed)
        self.index.add(combined(more.prompt, more.difference, self.kernel.mix))
        vectors = combined(votes.prompt, votes.difference, self.kernel.mix)
        recall = self.index.tune(vectors, seed=seed)
        if recall < LEAST_RECALL:
            return Memory.build(votes, self.kernel, kind=self.index.kind, seed=seed)
        return Memory(votes, self.index, self.kernel, recall)

    @property
    def shape(self) -> Shape:
        """What the bundle says of the index."""
        return self.index.shape().model_copy(update={"recall": round(self.recall, 4)})

    def files(self) -> dict[str, bytes]:
        """The files of a bundle."""
        own = self.index.tensors()
        return {VOTES: self.votes.dump()} | ({FILE: save_tensors(own)} if own else {})

    @classmethod
    def restore(cls, votes: Votes, kernel: Kernel, shape: Shape, path: Path) -> Memory:
        """From the file `FILE` of a bundle, which a flat index has not.

        Raises:
            BundleError: The index is damaged.
        """
        try:
            tensors = load_file(path) if shape.kind != Flat.kind else {}
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{FILE} is damaged: {error}", expected="the index of a retrieval judge") from error
        vectors = combined(votes.prompt, votes.difference, kernel.mix)
        return cls(votes, KINDS[shape.kind].restore(shape, vectors, tensors), kernel, shape.recall)

    def near(self, prompt: np.ndarray, difference: np.ndarray, row: np.ndarray, group: np.ndarray) -> Near:
        """The neighbours of some comparisons: `kernel.neighbours` that count and one more, which sets the zero.

        A vote on the very same texts, whichever way round, and a vote of the same group are never among them.

        Args:
            prompt: float32 (rows, d).
            difference: float32 (rows, d).
            row: uint64 (rows,): hashes as of `Votes`.
            group: uint64 (rows,): as of `Votes`, 0 for none.
        """
        count = self.kernel.neighbours + 1
        parts = [
            self._near(prompt[at], difference[at], row[at], group[at], count)
            for at in (slice(start, start + _BLOCK) for start in range(0, max(len(row), 1), _BLOCK))
        ]
        return Near(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _near(
        self, prompt: np.ndarray, difference: np.ndarray, row: np.ndarray, group: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        queries = [combined(prompt, side, self.kernel.mix) for side in (difference, -difference)]
        fetch = count + SPARE
        while True:
            fetch = min(fetch, len(self.votes))
            found = [self.index.search(query, fetch) for query in queries]
            similarity, vote = (np.concatenate(both, axis=1) for both in zip(*found, strict=True))
            mirrored = np.broadcast_to(np.arange(2 * fetch) >= fetch, vote.shape)
            known = np.maximum(vote, 0)
            own = (vote >= 0) & self._is_own(known, row, group)
            similarity = np.where(own, np.nan, similarity)
            # Beyond the last that one of both searches found, others may be missing.
            enough = (~own[:, :fetch]).sum(axis=1).min(initial=count) >= count
            enough &= (~own[:, fetch:]).sum(axis=1).min(initial=count) >= count
            if enough or fetch == len(self.votes):
                break
            fetch *= 2
        order = np.lexsort((mirrored, known, -np.nan_to_num(similarity, nan=-np.inf)))[:, :count]
        first, second, third = (np.take_along_axis(array, order, axis=1) for array in (similarity, known, mirrored))
        return first, second, third

    def _is_own(self, vote: np.ndarray, row: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Whether votes (rows, n) are on the very texts of the row, or of its group."""
        same_group = (self.votes.group[vote] == group[:, None]) & (group[:, None] > 0)
        alike: np.ndarray = (self.votes.row[vote] == row[:, None]) | same_group
        return alike
