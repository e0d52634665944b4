"""The weights of a pool that suit votes best: Newton's method on the simplex, with an active set.

The log-loss of a linear pool is convex in its weights (minus the logarithm of something linear), and so is that of a
logarithmic one (a log-sum-exp of something linear): what is found is the best there is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from tiebreak.calibration import FLOOR
from tiebreak.errors import TiebreakError
from tiebreak.pooling.pools import Space, logs, over_classes
from tiebreak.predictions import softmax

TOLERANCE: Final = 1e-10
"""Fitting ends when no permitted change of the weights lowers the mean log-loss faster than this."""

_ITERATIONS: Final = 500
_ROUNDING: Final = 1e-14
_DAMPING: Final = 1e-9


class _Local(NamedTuple):
    """Mean log-loss at some weights, with its first and second derivatives by them."""

    loss: float
    gradient: np.ndarray
    hessian: np.ndarray


class _Curve:
    """The mean log-loss of a pool of fixed opinions as a function of its weights."""

    def __init__(self, probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, space: Space) -> None:
        self.linear = space == "probabilities"
        self.opinions = np.clip(probabilities, FLOOR, None) if self.linear else logs(probabilities)
        self.targets = targets
        self.shares = weights / weights.sum()

    def __call__(self, w: np.ndarray) -> _Local:
        pooled = np.zeros_like(self.targets)
        for weight, opinion in zip(w, self.opinions, strict=True):
            pooled += weight * opinion
        return self._at_mean(pooled) if self.linear else self._at_logits(pooled)

    def _at_mean(self, mean: np.ndarray) -> _Local:
        loss = self.shares @ -over_classes(self.targets * np.log(mean))
        ratios = self.opinions / mean
        gradient = -(over_classes(self.targets * ratios) @ self.shares)
        return _Local(float(loss), gradient, self._products(self.targets * ratios, ratios))

    def _at_logits(self, logits: np.ndarray) -> _Local:
        top = logits.max(axis=1)
        log_total = top + np.log(over_classes(np.exp(logits - top[:, None])))
        loss = self.shares @ (log_total - over_classes(self.targets * logits))
        p = softmax(logits)
        gradient = over_classes((p - self.targets) * self.opinions) @ self.shares
        expected = over_classes(p * self.opinions)
        hessian = self._products(p * self.opinions, self.opinions) - (expected * self.shares) @ expected.T
        return _Local(float(loss), gradient, hessian)

    def _products(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Sums over rows and classes of the products of two opinions, shape (k, k)."""
        return np.array([[over_classes(one * other) @ self.shares for other in right] for one in left])


def best_weights(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, space: Space) -> np.ndarray:
    """The point of the simplex of least weighted log-loss.

    Where several are equally good (two opinions that are the same), it is one near equal weights. Swapping rows, labels
    and all, changes no bit of the result.

    Args:
        probabilities: Opinions, shape (k, rows, 3).
        targets: Hard or soft labels, shape (rows, 3).
        weights: Row weights, shape (rows,).
        space: Of which pool.

    Returns:
        Shape (k,), >= 0, sum 1.
    """
    count = len(probabilities)
    curve = _Curve(probabilities, targets, weights, space)
    w, free = np.full(count, 1 / count), np.ones(count, dtype=bool)
    for _ in range(_ITERATIONS):
        now = curve(w)
        excess = now.gradient - now.gradient[free].mean()
        if np.abs(excess[free]).max() >= TOLERANCE:
            w = _step(w, free, now, curve)
            free &= w > 0
        elif excess.min() < -TOLERANCE:
            # The best of this face; the loss still falls towards an opinion that was left out, so it comes back.
            free[int(excess.argmin())] = True
        else:
            return w
    raise TiebreakError(
        f"the weights of {count} opinions did not converge", expected=f"an optimum after {_ITERATIONS} steps"
    )


def _step(w: np.ndarray, free: np.ndarray, now: _Local, curve: _Curve) -> np.ndarray:
    """One damped Newton step among the free weights, at most to the edge of the simplex."""
    direction = np.zeros(len(w))
    direction[free] = _newton(now.gradient[free], now.hessian[np.ix_(free, free)])
    falling = direction < 0
    room = np.full(len(w), np.inf)
    room[falling] = w[falling] / -direction[falling]
    size = edge = float(room.min())
    size = min(size, 1.0)
    slope = float(now.gradient @ direction)
    while True:
        trial = np.maximum(w + size * direction, 0.0)
        if size == edge:
            trial[int(room.argmin())] = 0.0
        trial /= trial.sum()
        # Near the optimum the gain drowns in rounding, so a loss equal up to rounding is accepted too.
        if size < 1e-12 or curve(trial).loss <= now.loss + 1e-4 * size * slope + _ROUNDING * (1 + abs(now.loss)):
            return trial
        size /= 2


def _newton(gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """The step to the minimum of the quadratic model among changes with sum 0."""
    count = len(gradient)
    level = np.full((count, count), 1 / count)
    centre = np.eye(count) - level
    # A trace of damping gives a descent even along directions in which the opinions do not differ.
    curved = centre @ hessian @ centre
    scale = max(float(np.trace(curved)), 1e-300)
    step = np.linalg.solve(curved + scale * (level + _DAMPING * np.eye(count)), -(centre @ gradient))
    within: np.ndarray = centre @ step
    return within
