"""Ridge logistic regression by Newton's method: convex, a few steps, the same result on every run."""

from __future__ import annotations

import numpy as np

from tiebreak.judges.features.linear import Linear

_STEPS = 30
_SETTLED = 1e-9


def fit(
    matrix: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    *,
    ridge: float,
    odd: bool,
    offset: np.ndarray | None = None,
) -> Linear:
    """Fit P(1) = sigmoid(offset + intercept + weights on standardised, clipped features).

    Args:
        matrix: Features, a row an example.
        target: Probability of class 1 for each row.
        weight: Weight of each row.
        ridge: Penalty on the squared weights, in units of one example.
        odd: No centre and no intercept, so that the score of -x is minus the score of x.
        offset: Known part of the log-odds.
    """
    centre = np.zeros(matrix.shape[1]) if odd else np.average(matrix, axis=0, weights=weight)
    scale = np.sqrt(np.average((matrix - centre) ** 2, axis=0, weights=weight))
    scale[scale < 1e-9] = 1.0
    linear = Linear(centre, scale, np.ones(matrix.shape[1]))
    design = linear.contributions(matrix)
    if not odd:
        design = np.concatenate([design, np.ones((len(design), 1))], axis=1)
    penalty = np.full(design.shape[1], ridge)
    if not odd:
        penalty[-1] = 1e-6
    known = np.zeros(len(matrix)) if offset is None else offset
    solution = _newton(design, target, weight, penalty, known)
    intercept = 0.0 if odd else float(solution[-1])
    return Linear(centre, scale, solution[: matrix.shape[1]], intercept)


def _newton(
    design: np.ndarray, target: np.ndarray, weight: np.ndarray, penalty: np.ndarray, offset: np.ndarray
) -> np.ndarray:
    solution = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-(design @ solution + offset)))
        gradient = design.T @ (weight * (probability - target)) + penalty * solution
        curvature = weight * probability * (1 - probability)
        hessian = (design * curvature[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        solution = solution - step
        if np.abs(step).max() < _SETTLED:
            break
    return solution
