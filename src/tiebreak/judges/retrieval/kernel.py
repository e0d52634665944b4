"""From neighbours to probabilities: a kernel over similarities, and shrinkage to the prior.

A vote is a neighbour twice, as it was given and with its answers exchanged, so that the judge cannot prefer a side. The
weight of a neighbour of similarity s is exp((s - 1) / bandwidth), less what the first one that is *not* among the k
weighs. So the last of the k fades in from zero: which of two equally near votes comes last changes nothing, and neither
an approximate index nor a rounding error makes a probability jump. `shrinkage` says how many votes of similarity 1 the
prior counts for: far from all votes, the prior is what is said (Nadaraya-Watson with a Dirichlet prior).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Kernel(BaseModel):
    """What training chooses.

    Attributes:
        neighbours: How many count at most; a vote and its twin are two.
        mix: Share of the answers in the similarity of two comparisons, the rest is that of their prompts. At 0 no
            neighbour takes a side, and only ties are told from the rest.
        bandwidth: The loss of similarity at which a neighbour counts 1 / e of what an equal one does.
        shrinkage: Votes that the prior counts for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbours: Annotated[int, Field(ge=1)]
    mix: Annotated[float, Field(ge=0, le=1)]
    bandwidth: Annotated[float, Field(gt=0)]
    shrinkage: Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Near:
    """The neighbours of some comparisons, nearest first; NaN as similarity where there are fewer.

    Attributes:
        similarity: float64 (rows, n): of votes in the order that was found, sorted to fall.
        vote: int64 (rows, n): number of the vote.
        mirrored: bool (rows, n): whether it is near with its answers exchanged.
    """

    similarity: np.ndarray
    vote: np.ndarray
    mirrored: np.ndarray


def weigh(similarity: np.ndarray, kernel: Kernel) -> np.ndarray:
    """The weight of each neighbour, shape (rows, neighbours).

    Args:
        similarity: (rows, n), falling; NaN where there is no neighbour. With more than `neighbours` columns, the first
            that does not count sets the zero; with fewer, nothing does.
        kernel: As chosen.
    """
    raw = np.exp((np.nan_to_num(similarity, nan=-np.inf) - 1) / kernel.bandwidth)
    k = kernel.neighbours
    edge = raw[:, k : k + 1] if raw.shape[1] > k else np.zeros((len(raw), 1))
    weights: np.ndarray = raw[:, :k] - edge
    return weights


def distribution(near: Near, targets: np.ndarray, prior: np.ndarray, kernel: Kernel) -> np.ndarray:
    """The shrunken label distribution of the neighbours.

    Args:
        near: At least one neighbour more than count, where there are so many.
        targets: (votes, 3): hard or soft labels times the weights of the votes.
        prior: (3,) with the same mass for a and b, or the judge would prefer a side.
        kernel: As chosen.

    Returns:
        float64 (rows, 3) with sum 1; exchanging `mirrored` everywhere exchanges a and b to the last bit.
    """
    weights = weigh(near.similarity, kernel)
    k = weights.shape[1]
    mirrored = near.mirrored[:, :k]
    labels = targets[near.vote[:, :k]]
    first = np.where(mirrored, labels[..., 1], labels[..., 0])
    second = np.where(mirrored, labels[..., 0], labels[..., 1])
    sums = [(weights * side).sum(axis=1) for side in (first, second, labels[..., 2])]
    mass = np.stack(sums, axis=1) + kernel.shrinkage * prior
    total = (mass[:, 0] + mass[:, 1]) + mass[:, 2]
    result: np.ndarray = mass / total[:, None]
    return result
