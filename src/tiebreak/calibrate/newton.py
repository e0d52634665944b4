"""Damped Newton for one family: exact gradient and Hessian of the mean log-loss, which is convex in the map."""

from __future__ import annotations

from typing import Final

import numpy as np

from tiebreak.calibrate.families import Family
from tiebreak.calibration import FLOOR
from tiebreak.errors import CollapseError, TiebreakError
from tiebreak.predictions import softmax

TOLERANCE: Final = 1e-11
"""Fitting ends when no component of the gradient of the mean log-loss is larger."""

_ITERATIONS: Final = 200
_FLAT: Final = 1e-6
"""A direction whose curvature falls below this share of its start has no optimum: the data are separable there."""

_PENALTY: Final = np.concatenate([(np.ones((3, 3)) - np.eye(3)) / 6, np.full((3, 1), 1 / 3)], axis=1).ravel()
"""Off-diagonal and intercept regularisation (ODIR; Kull et al. 2019): mean squares of each part."""


def design(probabilities: np.ndarray) -> np.ndarray:
    """The logarithms of p beside a constant 1, shape (rows, 4): the logits of a map M are `design @ M.T`."""
    logs = np.log(np.clip(probabilities, FLOOR, None))
    return np.concatenate([logs, np.ones((len(logs), 1))], axis=1)


def objective(
    theta: np.ndarray, family: Family, x: np.ndarray, targets: np.ndarray, shares: np.ndarray, penalty: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean log-loss plus penalty at theta, with its gradient and Hessian.

    Args:
        theta: Coordinates in the family.
        family: Where the map is looked for.
        x: `design` of the probabilities, shape (rows, 4).
        targets: Hard or soft labels, shape (rows, 3), rows with sum 1.
        shares: Weights of the rows with sum 1.
        penalty: Strength of the ODIR penalty.
    """
    flat = family.basis.reshape(len(theta), 12)
    matrix = theta @ flat
    logits = x @ matrix.reshape(3, 4).T
    top = logits.max(axis=1, keepdims=True)
    log_total = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    loss = float(shares @ (log_total - (targets * logits).sum(axis=1)))
    p = softmax(logits)

    gradient = (((p - targets) * shares[:, None]).T @ x).ravel() + 2 * penalty * _PENALTY * matrix
    hessian = np.empty((3, 4, 3, 4))
    for i in range(3):
        for j in range(i, 3):
            curvature = shares * p[:, i] * ((i == j) - p[:, j])
            hessian[i, :, j, :] = (x * curvature[:, None]).T @ x
            hessian[j, :, i, :] = hessian[i, :, j, :].T
    full = hessian.reshape(12, 12) + np.diag(2 * penalty * _PENALTY)
    return loss + penalty * float(_PENALTY @ matrix**2), flat @ gradient, flat @ full @ flat.T


def minimise(
    family: Family, x: np.ndarray, targets: np.ndarray, shares: np.ndarray, penalty: float = 0.0
) -> np.ndarray:
    """The theta of least penalised log-loss; among equals the one nearest to the identity.

    Raises:
        CollapseError: There is no finite optimum, because the probabilities separate the labels.
    """
    theta = family.identity.copy()
    loss, gradient, hessian = objective(theta, family, x, targets, shares, penalty)
    start = hessian
    for _ in range(_ITERATIONS):
        if np.abs(gradient).max() < TOLERANCE:
            break
        step = -_pseudo_inverse(hessian) @ gradient
        expected = float(gradient @ step)
        size = 1.0
        while True:
            trial = objective(theta + size * step, family, x, targets, shares, penalty)
            # Near the optimum the gain drowns in rounding, so a loss equal up to rounding is accepted too.
            if trial[0] <= loss + 1e-4 * size * expected + 1e-14 * (1 + abs(loss)) or size < 1e-10:
                break
            size /= 2
        theta = theta + size * step
        loss, gradient, hessian = trial
    else:
        if np.abs(gradient).max() > 1e-8:
            raise TiebreakError(
                f"the {family.name} map did not converge: gradient {np.abs(gradient).max():.1e}",
                expected=f"less than {TOLERANCE:.0e} after {_ITERATIONS} steps",
            )
    _refuse_separable(family, start, hessian)
    return theta


def _pseudo_inverse(hessian: np.ndarray) -> np.ndarray:
    """The inverse on the directions that the data know; a step never leaves the identity along the others."""
    values, vectors = np.linalg.eigh(hessian)
    known = values > 1e-12 * max(values[-1], 1e-300)
    inverse: np.ndarray = (vectors[:, known] / values[known]) @ vectors[:, known].T
    return inverse


def _refuse_separable(family: Family, start: np.ndarray, end: np.ndarray) -> None:
    """Where labels follow from the probabilities without error, the loss falls for ever and flattens out."""
    values, vectors = np.linalg.eigh(start)
    known = values > 1e-12 * max(values[-1], 1e-300)
    white = vectors[:, known] / np.sqrt(values[known])
    if known.any() and np.linalg.eigvalsh(white.T @ end @ white)[0] < _FLAT:
        raise CollapseError(
            f"the {family.name} map has no finite optimum: the predictions tell some labels without a single error",
            expected="predictions made for votes that the judge was not trained on",
            mend="more votes, or --method temperature",
        )
