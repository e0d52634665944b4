"""Blend weights for slices of the rows, drawn towards the weights for all rows where a slice has few votes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak import pooling
from tiebreak.combine.evidence import Evidence
from tiebreak.judges.joining import pooled
from tiebreak.scoring import Bootstrap, Estimate, row_log_loss

STRENGTHS: Final = (10_000, 3_000, 1_000, 300, 100)
"""How many rows the common weights count for beside the rows of a slice; chosen by cross-validation."""

_INNER_FOLDS: Final = 4


@dataclass(frozen=True)
class Sliced:
    """Weights for slices, and what they are worth out of fold.

    Attributes:
        weights: One row a slice, shape (slices, k).
        strength: One of `STRENGTHS`.
        log_loss: Out of fold, with its 95 % interval.
        change: The same minus that of equal weights, paired.
        against_fitted: The same minus that of fitted weights for all rows, paired.
        against_single: The same minus that of the best single judge, paired.
        rows: Votes in each slice.
    """

    weights: np.ndarray
    strength: int
    log_loss: Estimate
    change: Estimate
    against_fitted: Estimate
    against_single: Estimate
    rows: np.ndarray


def fit(evidence: Evidence, codes: np.ndarray, slices: int, space: pooling.Space, folds: int, seed: int) -> Sliced:
    """Fit weights for each slice and judge them by nested cross-validation, on the folds of `pooling.fit`.

    Args:
        evidence: What the judges said of the votes.
        codes: The slice of each row, from 0.
        slices: How many there are.
        space: Mean of probabilities or of logits.
        folds: Of the cross-validation.
        seed: Of folds and resamples.
    """

    def chosen(part: Evidence, of: np.ndarray) -> np.ndarray:
        return _weights(part, of, slices, space, _strength(part, of, slices, space, seed))

    def common(part: Evidence, of: np.ndarray) -> np.ndarray:
        return np.tile(_all(part, space), (slices, 1))

    def equal(part: Evidence, of: np.ndarray) -> np.ndarray:
        return np.full((slices, len(part.opinions)), 1 / len(part.opinions))

    def single(part: Evidence, of: np.ndarray) -> np.ndarray:
        losses = [row_log_loss(p, part.targets) @ part.weights for p in part.opinions]
        return np.tile(np.eye(len(losses))[int(np.argmin(losses))], (slices, 1))

    bootstrap, w = Bootstrap(evidence.groups, seed=seed), evidence.weights
    total = bootstrap.sum(w)
    draws = [
        bootstrap.sum(_held_out(evidence, codes, space, folds, seed, rule) * w) / total
        for rule in (chosen, common, equal, single)
    ]
    strength = _strength(evidence, codes, slices, space, seed)
    return Sliced(
        weights=_weights(evidence, codes, slices, space, strength), strength=strength, log_loss=Estimate.of(draws[0]),
        change=Estimate.of(draws[0] - draws[2]), against_fitted=Estimate.of(draws[0] - draws[1]),
        against_single=Estimate.of(draws[0] - draws[3]),
        rows=np.bincount(codes, minlength=slices),
    )  # fmt: skip


def _held_out(
    evidence: Evidence, codes: np.ndarray, space: pooling.Space, folds: int, seed: int,
    rule: Callable[[Evidence, np.ndarray], np.ndarray],
) -> np.ndarray:  # fmt: skip
    """The log-loss of each row under the weights that the other folds ask for."""
    losses, fold = np.empty(len(codes)), evidence.folds(folds, seed)
    for number in range(folds):
        out = fold == number
        losses[out] = _losses(evidence.take(out), codes[out], space, rule(evidence.take(~out), codes[~out]))
    return losses


def _losses(evidence: Evidence, codes: np.ndarray, space: pooling.Space, weights: np.ndarray) -> np.ndarray:
    losses = np.empty(len(codes))
    for code, row in enumerate(weights):
        mine = codes == code
        if mine.any():
            losses[mine] = row_log_loss(pooled(evidence.opinions[:, mine], row, space), evidence.targets[mine])
    return losses


def _strength(evidence: Evidence, codes: np.ndarray, slices: int, space: pooling.Space, seed: int) -> int:
    """The strength of least log-loss among these rows, by an inner cross-validation."""

    def loss(strength: int) -> float:
        found = _held_out(
            evidence, codes, space, _INNER_FOLDS, seed,
            lambda part, of: _weights(part, of, slices, space, strength),
        )  # fmt: skip
        return float(found @ evidence.weights)

    return min(STRENGTHS, key=loss)


def _weights(
    evidence: Evidence, codes: np.ndarray, slices: int, space: pooling.Space, strength: int
) -> np.ndarray:  # fmt: skip
    common = _all(evidence, space)
    found = np.tile(common, (slices, 1))
    for code in range(slices):
        mine = codes == code
        if mine.any():
            own = _all(evidence.take(mine), space)
            count = float(mine.sum())
            found[code] = (count * own + strength * common) / (count + strength)
    drawn: np.ndarray = found / found.sum(axis=1, keepdims=True)
    return drawn


def _all(evidence: Evidence, space: pooling.Space) -> np.ndarray:
    return pooling.best_weights(evidence.opinions, evidence.targets, evidence.weights, space=space)
