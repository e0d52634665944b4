"""Hard verdicts -> probabilities of votes.

A written verdict is a word and no probability. What it is worth is a question of fact: of the rows in which the model
wrote A in one order and a tie in the other, how did people vote? The answer is a table with a cell for each pair of
verdicts. "Invalid" is a verdict like the others: a row without a readable answer has a cell, too.

Exchanging the answers of a row exchanges its two orders and mirrors the verdicts. A table that gives mirrored cells
mirrored probabilities therefore makes an exactly swap-equivariant judge, also of a model that prefers what it reads
first.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, model_validator

from tiebreak.comparisons import LABELS

INVALID: Final = len(LABELS)
"""The verdict of a text in which none can be read; the others are places in `LABELS`."""

STATES: Final = len(LABELS) + 1

PRIOR: Final = (0.35, 0.35, 0.30)
"""Round shares of a, b and tie among arena votes: what an unfitted judge says where it has read nothing."""

WEIGHT: Final = 2.0
"""Votes that the prior is worth beside a verdict, before anything is fitted: two agreeing verdicts give 0.675."""

STRENGTH: Final = 10.0
"""Votes that an unfitted cell is worth beside those that it is fitted to."""

_MIRROR: Final = np.array([1, 0, 2, 3])
_COLUMNS: Final = [1, 0, 2]

Share = Annotated[float, AllowInfNan(False), Field(ge=0, le=1)]
Cell = tuple[Share, Share, Share]


class VerdictTable(BaseModel):
    """P(vote | verdicts).

    Attributes:
        twice: For each pair of verdicts (a, b, tie or invalid in the order given, then in the other order, both as
            verdicts on the answers as given), probabilities of a, b, tie; 16 cells, the second verdict runs fastest.
        once: The same for one order: 4 cells.
        votes: How many votes it was fitted to; 0: it is the default, `default()`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    twice: tuple[Cell, ...]
    once: tuple[Cell, ...]
    votes: float = 0.0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for cells, count in ((self.twice, STATES**2), (self.once, STATES)):
            if len(cells) != count or not np.allclose(np.sum(cells, axis=1), 1, atol=1e-9):
                raise ValueError(f"a table of {count} cells, each of which sums to 1")
        return self

    @classmethod
    def default(cls) -> VerdictTable:
        """Before anything was fitted: each readable verdict counts as one vote beside `WEIGHT` votes of the prior."""
        votes = np.vstack([np.eye(len(LABELS)), np.zeros(len(LABELS))])
        prior = WEIGHT * np.array(PRIOR)
        return cls(twice=_cells(prior + votes[:, None] + votes[None, :]), once=_cells(prior + votes))

    @classmethod
    def fitted(
        cls, verdicts: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None, *,
        strength: float = STRENGTH,
    ) -> VerdictTable:  # fmt: skip
        """The table of votes: each cell with its mirror image, drawn towards the overall shares of votes.

        Unfitted cells are mixed with the shares of these votes rather than with `PRIOR`: of arenas, some have hardly a
        tie. The posterior mean under a Dirichlet prior of `strength` votes.

        Args:
            verdicts: int (rows, 2) or (rows, 1): as of `twice`.
            targets: float64 (rows, 3): votes, or soft labels.
            weights: float64 (rows,); None: all alike.
            strength: Votes that a cell without any is worth.
        """
        weights = np.ones(len(verdicts)) if weights is None else weights
        mass = targets * weights[:, None]
        overall = (mass + mass[:, _COLUMNS]).sum(axis=0)
        prior = (overall + np.array(PRIOR)) / (overall.sum() + 1)
        once, twice = np.zeros((STATES, 3)), np.zeros((STATES, STATES, 3))
        for column in range(verdicts.shape[1]):
            _count(once, (verdicts[:, column],), mass)
            _count(once, (_MIRROR[verdicts[:, column]],), mass[:, _COLUMNS])
        if verdicts.shape[1] == 2:
            first, second = verdicts.T
            _count(twice, (first, second), mass)
            _count(twice, (_MIRROR[second], _MIRROR[first]), mass[:, _COLUMNS])
        # In a cell that is its own mirror image, a vote and its mirror image are one vote.
        states = np.arange(STATES)
        once[states == _MIRROR] /= 2
        twice[states, _MIRROR] /= 2
        # Sums in another order differ in their last bits; this mean is the same from both sides.
        once = (once + once[_MIRROR][:, _COLUMNS]) / 2
        twice = (twice + twice[_MIRROR][:, _MIRROR].transpose(1, 0, 2)[..., _COLUMNS]) / 2
        start = _towards(cls.default(), prior)
        return cls(
            twice=_cells(twice + strength * start[0]),
            once=_cells(once / verdicts.shape[1] + strength * start[1]),
            votes=float(weights.sum()),
        )

    def probabilities(self, verdicts: np.ndarray) -> np.ndarray:
        """Probabilities of votes, float64 (rows, 3), for verdicts int (rows, 2) or (rows, 1)."""
        single = verdicts.shape[1] == 1
        cells = np.array(self.once if single else self.twice)
        found: np.ndarray = cells[verdicts[:, 0] if single else verdicts[:, 0] * STATES + verdicts[:, 1]]
        return found

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return self.model_dump(mode="json")


def _count(cells: np.ndarray, place: tuple[np.ndarray, ...], mass: np.ndarray) -> None:
    np.add.at(cells, place, mass)


def _towards(default: VerdictTable, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The default cells with these shares in the place of `PRIOR`."""
    ratio = prior / np.array(PRIOR)
    twice, once = (np.array(cells) * ratio for cells in (default.twice, default.once))
    return (twice / twice.sum(axis=1, keepdims=True)).reshape(STATES, STATES, 3), once / once.sum(axis=1, keepdims=True)


def _cells(mass: np.ndarray) -> tuple[Cell, ...]:
    """Mass as shares; mirrored cells exactly mirrored, for sums of three numbers depend on their order."""
    flat = mass.reshape(-1, len(LABELS))
    total = (flat[:, 0] + flat[:, 1]) + flat[:, 2]
    return tuple((float(a), float(b), float(t)) for a, b, t in flat / total[:, None])
