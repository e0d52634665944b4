"""One fit: features and targets in, the files of a bundle out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tiebreak.errors import DataError
from tiebreak.judges.features import Features
from tiebreak.judges.features.linear import Linear
from tiebreak.judges.features.model import dump
from tiebreak.judges.features.wording import Vocabulary
from tiebreak.train.features import boosting, logistic, wording

_VERSUS: Final = {"ridge": 330.0, "rounds": 200, "linear": 0.35, "trees": 0.35}
_TIE: Final = {"ridge": 330.0, "rounds": 200, "linear": 0.5, "trees": 0.5}
"""Linear part and trees are averaged, for their mistakes differ; the wording takes its share of versus."""


@dataclass(frozen=True)
class Examples:
    """What is learned from.

    Attributes:
        features: A row an example.
        targets: Shape (rows, 3): hard or soft labels.
        weight: Weight of each row.
        tie_offset: Log-odds of a tie in the source of each row, relative to the target source.
        spoken: The answers' terms and the names of their models.
        vocabulary: The terms to choose from.
    """

    features: Features
    targets: np.ndarray
    weight: np.ndarray
    tie_offset: np.ndarray
    spoken: wording.Spoken
    vocabulary: Vocabulary


@dataclass(frozen=True)
class _Binary:
    matrix: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    offset: np.ndarray


def require_libraries() -> None:
    """Find out before any work whether all that fitting needs is there.

    Raises:
        MissingExtraError: LightGBM or scikit-learn is not installed.
    """
    boosting.library()
    wording.library()


def fit(examples: Examples, *, seed: int) -> dict[str, bytes]:
    """Learn both scores of the judge."""
    versus_linear, versus_trees = _fit_versus(examples, seed)
    tie_linear, tie_trees = _fit_tie(examples, versus_linear.predict(examples.features.signed), seed)
    return dump(
        {
            "versus": replace(versus_linear, weight=versus_linear.weight * _VERSUS["linear"]),
            "tie": replace(tie_linear, weight=tie_linear.weight * _TIE["linear"]),
        },
        {"versus": versus_trees, "tie": tie_trees},
        # The trees' score is given minus mirrored, twice the mean of both ways round.
        {"versus": _VERSUS["trees"] / 2, "tie": _TIE["trees"]},
        wording.fit(examples.spoken, examples.vocabulary),
    )


def _fit_versus(examples: Examples, seed: int) -> tuple[Linear, str]:
    """A against B, on the votes that chose one; every vote is shown both ways round."""
    signed, symmetric = examples.features.signed, examples.features.symmetric
    p_a, p_b = examples.targets[:, 0] * examples.weight, examples.targets[:, 1] * examples.weight
    if not (p_a.any() or p_b.any()):
        raise DataError(
            "the votes outside a test fold are all ties",
            expected="votes for a and b in several groups",
            mend="more votes, or fewer --folds",
        )
    given = np.concatenate([signed, symmetric], axis=1)
    mirrored = np.concatenate([-signed, symmetric], axis=1)
    both = _stack([(given, 1.0, p_a), (given, 0.0, p_b), (mirrored, 1.0, p_b), (mirrored, 0.0, p_a)])
    linear = logistic.fit(both.matrix[:, : signed.shape[1]], both.target, both.weight, ridge=_VERSUS["ridge"], odd=True)
    trees = boosting.fit(both.matrix, both.target, both.weight, rounds=int(_VERSUS["rounds"]), seed=seed)
    return linear, trees


def _fit_tie(examples: Examples, versus: np.ndarray, seed: int) -> tuple[Linear, str]:
    """A tie against the rest.

    The further A and B are apart, the more of the other two classes' mass the better one has: a tie of the same logit
    is then less likely. `versus`, the linear score of A against B, accounts for it.
    """
    symmetric = examples.features.symmetric
    p_tie = examples.targets[:, 2]
    if not (p_tie * examples.weight).any():
        return _never(symmetric.shape[1], examples.weight.sum()), boosting.NO_TREES
    offset = examples.tie_offset - np.logaddexp(versus / 2, -versus / 2)
    both = _stack([(symmetric, 1.0, p_tie * examples.weight), (symmetric, 0.0, (1 - p_tie) * examples.weight)], offset)
    linear = logistic.fit(both.matrix, both.target, both.weight, ridge=_TIE["ridge"], odd=False, offset=both.offset)
    trees = boosting.fit(
        both.matrix,
        both.target,
        both.weight,
        rounds=int(_TIE["rounds"]),
        seed=seed,
        offset=both.offset + linear.intercept,
    )
    return linear, trees


def _never(columns: int, votes: float) -> Linear:
    """What to expect of a class that was not seen in so many votes: as if half a vote had been for it."""
    return Linear(np.zeros(columns), np.ones(columns), np.zeros(columns), float(np.log(0.5 / votes)))


def _stack(parts: list[tuple[np.ndarray, float, np.ndarray]], offset: np.ndarray | None = None) -> _Binary:
    """Rows with a class and a weight below one another; rows without weight are left out."""
    known = np.zeros(len(parts[0][0])) if offset is None else offset
    return _Binary(
        np.concatenate([matrix[weight > 0] for matrix, _, weight in parts]),
        np.concatenate([np.full(int((weight > 0).sum()), target) for _, target, weight in parts]),
        np.concatenate([weight[weight > 0] for _, _, weight in parts]),
        np.concatenate([known[weight > 0] for _, _, weight in parts]),
    )
