"""One fit: features and targets in, the files of a bundle out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tiebreak.judges.features import Features
from tiebreak.judges.features.linear import Linear
from tiebreak.judges.features.model import dump
from tiebreak.train import boosting, logistic

_VERSUS: Final = {"ridge": 330.0, "rounds": 150}
_TIE: Final = {"ridge": 600.0, "rounds": 90}
_SHARE: Final = 0.5
"""Linear part and trees are averaged: their mistakes differ."""


@dataclass(frozen=True)
class Examples:
    """What is learned from.

    Attributes:
        features: A row an example.
        targets: Shape (rows, 3): hard or soft labels.
        weight: Weight of each row.
        tie_offset: Log-odds of a tie in the source of each row, relative to the target source.
    """

    features: Features
    targets: np.ndarray
    weight: np.ndarray
    tie_offset: np.ndarray


@dataclass(frozen=True)
class _Binary:
    matrix: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    offset: np.ndarray


def fit(examples: Examples, *, seed: int) -> dict[str, bytes]:
    """Learn both scores of the judge."""
    versus_linear, versus_trees = _fit_versus(examples, seed)
    tie_linear, tie_trees = _fit_tie(examples, seed)
    return dump(
        {"versus": versus_linear, "tie": tie_linear},
        {"versus": versus_trees, "tie": tie_trees},
        # The trees' score is given minus mirrored, twice the mean of both ways round.
        {"versus": _SHARE / 2, "tie": _SHARE},
    )


def _fit_versus(examples: Examples, seed: int) -> tuple[Linear, str]:
    """A against B, on the votes that chose one; every vote is shown both ways round."""
    signed, symmetric = examples.features.signed, examples.features.symmetric
    p_a, p_b = examples.targets[:, 0] * examples.weight, examples.targets[:, 1] * examples.weight
    given = np.concatenate([signed, symmetric], axis=1)
    mirrored = np.concatenate([-signed, symmetric], axis=1)
    both = _stack([(given, 1.0, p_a), (given, 0.0, p_b), (mirrored, 1.0, p_b), (mirrored, 0.0, p_a)])
    linear = logistic.fit(both.matrix[:, : signed.shape[1]], both.target, both.weight, ridge=_VERSUS["ridge"], odd=True)
    trees = boosting.fit(both.matrix, both.target, both.weight, rounds=int(_VERSUS["rounds"]), seed=seed)
    return replace(linear, weight=linear.weight * (1 - _SHARE)), trees


def _fit_tie(examples: Examples, seed: int) -> tuple[Linear, str]:
    """A tie against the rest."""
    symmetric = examples.features.symmetric
    p_tie = examples.targets[:, 2]
    offset = examples.tie_offset + np.log(0.5)
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
    return replace(linear, weight=linear.weight * (1 - _SHARE)), trees


def _stack(parts: list[tuple[np.ndarray, float, np.ndarray]], offset: np.ndarray | None = None) -> _Binary:
    """Rows with a class and a weight below one another; rows without weight are left out."""
    known = np.zeros(len(parts[0][0])) if offset is None else offset
    return _Binary(
        np.concatenate([matrix[weight > 0] for matrix, _, weight in parts]),
        np.concatenate([np.full(int((weight > 0).sum()), target) for _, target, weight in parts]),
        np.concatenate([weight[weight > 0] for _, _, weight in parts]),
        np.concatenate([known[weight > 0] for _, _, weight in parts]),
    )
