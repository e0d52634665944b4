"""The nearest votes of some rows under every mix at once, none of the row's own group, by looking at all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.judges.retrieval.votes import Votes

_BLOCK: Final = 128


@dataclass(frozen=True)
class Candidates:
    """Neighbours of some rows, nearest first.

    Attributes:
        similarity: float32 (rows, n), falling; -inf where there are fewer.
        vote: int32 (rows, n).
        mirrored: bool (rows, n).
    """

    similarity: np.ndarray
    vote: np.ndarray
    mirrored: np.ndarray

    def allowed(self, votes: np.ndarray, rows: np.ndarray, count: int) -> Candidates:
        """The first `count` neighbours of some of the rows among those votes that are allowed.

        Args:
            votes: bool, one a vote.
            rows: Places of rows.
            count: At most as many are left.
        """
        vote = self.vote[rows]
        order = np.argsort(~votes[vote], axis=1, kind="stable")[:, :count]
        there = np.take_along_axis(votes[vote], order, axis=1)
        similarity = np.take_along_axis(self.similarity[rows], order, axis=1)
        return Candidates(
            np.where(there, similarity, -np.inf).astype(np.float32), np.take_along_axis(vote, order, axis=1),
            np.take_along_axis(self.mirrored[rows], order, axis=1),
        )  # fmt: skip


def candidates(
    votes: Votes, rows: np.ndarray, group: np.ndarray, mixes: tuple[float, ...], count: int,
    advance: Callable[[int], None],
) -> dict[float, Candidates]:  # fmt: skip
    """The nearest of all votes, both ways round.

    Args:
        votes: All of them.
        rows: Which of them look for neighbours.
        group: int (votes,): nobody is the neighbour of one of its group; the row itself is of its group.
        mixes: Shares of the answers in the similarity.
        count: Neighbours to keep for each row.
        advance: Called with the number of rows just finished.
    """
    prompt, difference = votes.prompt.astype(np.float32), votes.difference.astype(np.float32)
    parts: dict[float, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {mix: [] for mix in mixes}
    for start in range(0, len(rows), _BLOCK):
        here = rows[start : start + _BLOCK]
        prompts, answers = prompt[here] @ prompt.T, difference[here] @ difference.T
        own = group[here][:, None] == group[None, :]
        for mix in mixes:
            base, turn = np.float32(1 - mix) * prompts, np.float32(mix) * answers
            both = np.concatenate([np.where(own, -np.inf, base + turn), np.where(own, -np.inf, base - turn)], axis=1)
            parts[mix].append(_nearest(both.astype(np.float32), count))
        advance(len(here))
    return {
        mix: Candidates(*(np.concatenate(column) for column in zip(*found, strict=True)))
        for mix, found in parts.items()
    }


def _nearest(both: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity, vote and side of the largest of (rows, 2 * votes); equal ones in the order of votes."""
    half = both.shape[1] // 2
    count = min(count, both.shape[1])
    at = np.argpartition(-both, count - 1, axis=1)[:, :count] if count < both.shape[1] else np.arange(both.shape[1])
    at = np.broadcast_to(at, (len(both), count))
    similarity = np.take_along_axis(both, at, axis=1)
    vote, mirrored = at % half, at >= half
    order = np.lexsort((mirrored, vote, -similarity))
    first, second, third = (np.take_along_axis(array, order, axis=1) for array in (similarity, vote, mirrored))
    return first, second.astype(np.int32), third
