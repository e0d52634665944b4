"""How strong the models behind the answers are, found from the votes alone: a shrunk Bradley-Terry model.

A model's rating is less noisy than a vote, and every answer of the model gets it: what is learned from ratings needs
no more names when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

_SHRINK: Final = 0.5
"""Penalty on squared ratings, in votes: a model with few votes stays near the mean."""

_STEPS: Final = 100
_FEWEST: Final = 3
Names = tuple[Sequence[str | None], Sequence[str | None]]


def ratings(models: Names, targets: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The rating of the model behind A and behind B of each row, in log-odds; NaN where its name is not known.

    Args:
        models: Names, or None.
        targets: Shape (rows, 3); a tie counts half for each.
        weight: Weight of each row.

    Returns:
        None when fewer than three models have met another one: then ratings say nothing.
    """
    met = [pair for pair in zip(*models, strict=True) if None not in pair and pair[0] != pair[1]]
    names = sorted({name for pair in met for name in pair if name is not None})
    if len(names) < _FEWEST:
        return None
    number = {name: position for position, name in enumerate(names)}
    a, b = (np.array([number.get(name or "", -1) for name in side]) for side in models)
    both = (a >= 0) & (b >= 0) & (a != b)
    won = targets[both, 0] + targets[both, 2] / 2
    strength = np.append(_bradley_terry(a[both], b[both], won, weight[both], len(names)), np.nan)
    return strength[a], strength[b]


def _bradley_terry(a: np.ndarray, b: np.ndarray, won: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """Newton's method on the penalised likelihood."""
    strength = np.zeros(size)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(strength[b] - strength[a]))
        pull = weight * (chance - won)
        gradient = np.bincount(a, pull, size) - np.bincount(b, pull, size) + _SHRINK * strength
        firmness = weight * chance * (1 - chance)
        hessian = np.diag(np.bincount(a, firmness, size) + np.bincount(b, firmness, size) + _SHRINK)
        np.subtract.at(hessian, (a, b), firmness)
        np.subtract.at(hessian, (b, a), firmness)
        step = np.linalg.solve(hessian, gradient)
        strength = strength - step
        if np.abs(step).max() < 1e-10:
            break
    return strength
