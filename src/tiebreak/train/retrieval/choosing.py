"""The kernel that suits the votes, and what it is worth: nested cross-validation over groups.

For each outer fold the kernel is chosen on the other folds, each of which is judged by the votes of all others but the
outer one; then the outer fold is judged by the votes of all other folds, with the kernel and the prior of those. No
figure is of a row that had a say in anything that judged it. The kernel of the judge is chosen in the same way over all
folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.judges.retrieval.kernel import Kernel
from tiebreak.judges.retrieval.votes import Votes
from tiebreak.pooling.judging import fold_of
from tiebreak.scoring import row_log_loss
from tiebreak.train.retrieval.candidates import Candidates, candidates
from tiebreak.train.retrieval.recipe import Recipe

NEIGHBOURS: Final = 512
"""Where nobody says; or as many as there are votes. How near a neighbour must be is the bandwidth's business: a second
choice of the same thing cost more in luck than it gained (docs/retrieval.md)."""
MIXES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BANDWIDTHS: Final = (0.05, 0.1, 0.2, 0.4)
SHARES: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 10_000.0)
"""What the prior weighs against all neighbours of an average row together; the largest is the prior alone."""

_ERRORS: Final = 2.0
"""Standard errors between the change of a kernel against the prior and its upper bound."""
_LEAST: Final = 1e-300
"""Keeps the prior in where every neighbour is so far away that its weight is 0."""

Place = tuple[int, int, int, int]
"""Which mix, which number of neighbours, which bandwidth, which shrinkage."""


@dataclass(frozen=True)
class Chosen:
    """What came of choosing.

    Attributes:
        kernel: Chosen on all folds.
        rows: Places of the votes that were held out.
        probabilities: Of these, out of fold: float64 (rows, 3).
        prior: Of these, what the shares of the other folds say: float64 (rows, 3).
        fold: Of these.
        by_fold: The kernel of each outer fold: how far to trust the choice.
    """

    kernel: Kernel
    rows: np.ndarray
    probabilities: np.ndarray
    prior: np.ndarray
    fold: np.ndarray
    by_fold: list[Kernel]


@dataclass(frozen=True)
class _Grid:
    mixes: tuple[float, ...]
    neighbours: tuple[int, ...]
    bandwidths: tuple[float, ...]
    shares: tuple[float, ...]
    shrinkage: float | None

    @classmethod
    def of(cls, recipe: Recipe, votes: int) -> _Grid:
        return cls(
            MIXES if recipe.mix is None else (recipe.mix,),
            (recipe.neighbours or min(NEIGHBOURS, votes),),
            BANDWIDTHS if recipe.bandwidth is None else (recipe.bandwidth,),
            SHARES if recipe.shrinkage is None else (1.0,),
            recipe.shrinkage,
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.mixes), len(self.neighbours), len(self.bandwidths), len(self.shares)


def choose(
    votes: Votes, targets: np.ndarray, group: np.ndarray, recipe: Recipe, advance: Callable[[int], None]
) -> Chosen:
    """Choose a kernel, and judge the choosing.

    Args:
        votes: All of them.
        targets: Their labels, float64 (votes, 3), without weights.
        group: int (votes,): codes of groups.
        recipe: What is chosen already.
        advance: Called with the number of rows just finished, three times for each.
    """
    grid = _Grid.of(recipe, len(votes))
    fold = fold_of(group, targets, recipe.folds, recipe.seed)
    rows = np.arange(len(votes))
    if len(rows) > recipe.sample:
        rows = np.sort(np.random.default_rng(recipe.seed).choice(rows, recipe.sample, replace=False))
    # Two folds in five are taken away at most, from any row's neighbours about as many.
    most = 4 * (max(grid.neighbours) + 1)
    near = candidates(votes, rows, group, grid.mixes, most, advance)
    study = _Study(votes, targets, fold, rows, near, grid)
    folds = range(recipe.folds)
    probabilities, prior = np.empty((len(rows), 3)), np.empty((len(rows), 3))
    by_fold = []
    for outer in folds:
        kernel = study.choose([number for number in folds if number != outer], outer)
        held = np.flatnonzero(fold[rows] == outer)
        prior[held] = study.prior((outer,))
        probabilities[held] = study.judge(held, kernel, (outer,))
        by_fold.append(kernel)
        advance(len(held))
    final = study.choose(list(folds), None)
    advance(len(rows))
    return Chosen(final, rows, probabilities, prior, fold[rows], by_fold)


class _Study:
    """The loss of every kernel of the grid on rows that are held out."""

    def __init__(
        self, votes: Votes, targets: np.ndarray, fold: np.ndarray, rows: np.ndarray, near: dict[float, Candidates],
        grid: _Grid,
    ) -> None:  # fmt: skip
        self.votes = votes
        self.targets = targets[rows]
        self.masses = votes.targets.astype(np.float64)
        self.weights = self.masses[rows].sum(axis=1)
        self.fold = fold
        self.rows = rows
        self.near = near
        self.grid = grid

    def choose(self, inner: list[int], outer: int | None) -> Kernel:
        """The kernel that is surest to beat the prior on the inner folds, each judged by all but itself and the outer.

        It has the least upper bound of the change against the prior: a sharp kernel that won by a few lucky rows is
        none, and where nothing is sure the largest shrinkage is, which is the prior.
        """
        change, squares, mass = np.zeros(self.grid.shape), np.zeros(self.grid.shape), np.zeros(self.grid.shape[:3])
        weight = 0
        for number in inner:
            held = np.flatnonzero(self.fold[self.rows] == number)
            away = (number,) if outer is None else (number, outer)
            for at, masses in self._masses(held, away):
                mass[at] += masses.sum()
                changes = np.stack([self._changes(masses, held, away, share) for share in self.grid.shares])
                change[at] += changes.sum(axis=1)
                squares[at] += (changes**2).sum(axis=1)
            weight += len(held)
        bound = change / weight + _ERRORS * np.sqrt(squares) / weight
        best: Place = np.unravel_index(int(np.argmin(bound)), self.grid.shape)  # type: ignore[assignment]
        grid, share = self.grid, self.grid.shares[best[3]] * float(mass[best[:3]]) / weight
        return Kernel(
            mix=grid.mixes[best[0]], neighbours=grid.neighbours[best[1]], bandwidth=grid.bandwidths[best[2]],
            shrinkage=grid.shrinkage or max(share, _LEAST),
        )  # fmt: skip

    def judge(self, held: np.ndarray, kernel: Kernel, away: tuple[int, ...]) -> np.ndarray:
        """Probabilities of rows by the votes of all folds but some."""
        grid = _Grid((kernel.mix,), (kernel.neighbours,), (kernel.bandwidth,), (1.0,), kernel.shrinkage)
        other = _Study.__new__(_Study)
        other.__dict__ |= self.__dict__ | {"grid": grid}
        ((_, masses),) = other._masses(held, away)
        return _shrunken(masses, kernel.shrinkage, self.prior(away))

    def prior(self, away: tuple[int, ...]) -> np.ndarray:
        """Shares of the labels in all folds but some, the same for a and b."""
        return np.array(self.votes.picked(~np.isin(self.fold, away)).prior())

    def _changes(self, masses: np.ndarray, held: np.ndarray, away: tuple[int, ...], share: float) -> np.ndarray:
        """What each row loses (or gains, below 0) against the prior."""
        shrinkage, prior = self.grid.shrinkage or share * float(masses.sum(axis=1).mean()), self.prior(away)
        targets = self.targets[held]
        judged = row_log_loss(_shrunken(masses, shrinkage, prior), targets)
        lost: np.ndarray = (judged - row_log_loss(np.broadcast_to(prior, targets.shape), targets)) * self.weights[held]
        return lost

    def _masses(self, held: np.ndarray, away: tuple[int, ...]) -> Iterator[tuple[tuple[int, int, int], np.ndarray]]:
        """For each mix, number and bandwidth the weighted labels of the neighbours, (rows, 3)."""
        allowed = ~np.isin(self.fold, away)
        for first, mix in enumerate(self.grid.mixes):
            near = self.near[mix].allowed(allowed, held, max(self.grid.neighbours) + 1)
            labels = self.masses[near.vote]
            labels = np.where(near.mirrored[..., None], labels[..., [1, 0, 2]], labels)
            plain = labels.cumsum(axis=1)
            for third, bandwidth in enumerate(self.grid.bandwidths):
                raw = np.exp((near.similarity.astype(np.float64) - 1) / bandwidth)
                summed = (raw[..., None] * labels).cumsum(axis=1)
                for second, k in enumerate(self.grid.neighbours):
                    last = min(k, raw.shape[1]) - 1
                    edge = raw[:, k, None] if k < raw.shape[1] else 0.0
                    yield (first, second, third), np.maximum(summed[:, last] - edge * plain[:, last], 0.0)


def _shrunken(masses: np.ndarray, shrinkage: float, prior: np.ndarray) -> np.ndarray:
    mass = masses + max(shrinkage, _LEAST) * prior
    result: np.ndarray = mass / mass.sum(axis=1, keepdims=True)
    return result
