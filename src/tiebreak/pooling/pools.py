"""The two pools: the mean of probabilities, and the mean of logits (the normalised geometric mean).

Classes are never added up by a matrix product: BLAS may add in another order for each shape, and swapping a and b must
swap the result bit by bit.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from tiebreak.calibration import FLOOR
from tiebreak.errors import DataError, UsageError
from tiebreak.predictions import softmax

Space = Literal["probabilities", "logits"]
SPACES: Final[tuple[str, ...]] = get_args(Space)

_ROUNDING: Final = 1e-6


def linear(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The weighted mean of probabilities (linear opinion pool; Stone 1961): one confident opinion stays heard.

    Args:
        probabilities: Shape (k, rows, 3), order a, b, tie.
        weights: Shape (k,), >= 0, sum 1; equal by default.

    Returns:
        Shape (rows, 3), rows with sum 1, exactly mirrored where every opinion is.

    Raises:
        DataError: The shapes do not fit, or the weights are no point of the simplex.
    """
    mean = _mean(probabilities, _checked(probabilities, weights))
    total = (mean[:, 0] + mean[:, 1]) + mean[:, 2]
    result: np.ndarray = mean / total[:, None]
    return result


def logarithmic(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The weighted mean of logits (logarithmic opinion pool): whoever is sure that it is not, has a veto.

    Probabilities are floored at `calibration.FLOOR` before the logarithm.

    Args:
        probabilities: Shape (k, rows, 3), order a, b, tie.
        weights: Shape (k,), >= 0, sum 1; equal by default.

    Returns:
        Shape (rows, 3), rows with sum 1, exactly mirrored where every opinion is.

    Raises:
        DataError: The shapes do not fit, or the weights are no point of the simplex.
    """
    return softmax(_mean(logs(probabilities), _checked(probabilities, weights)))


def pool(probabilities: np.ndarray, weights: np.ndarray | None = None, *, space: Space) -> np.ndarray:
    """`linear` or `logarithmic`, by name.

    Raises:
        UsageError: There is no such space.
    """
    if space not in SPACES:
        raise UsageError(f"no pool in the space of {space!r}", expected=f"one of {', '.join(SPACES)}")
    return linear(probabilities, weights) if space == "probabilities" else logarithmic(probabilities, weights)


def logs(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms of floored probabilities."""
    result: np.ndarray = np.log(np.clip(probabilities, FLOOR, None))
    return result


def over_classes(values: np.ndarray) -> np.ndarray:
    """The sum over the last axis as (a + b) + tie, the same to the last bit when a and b change places."""
    total: np.ndarray = (values[..., 0] + values[..., 1]) + values[..., 2]
    return total


def _mean(opinions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights[0] * opinions[0]
    for weight, opinion in zip(weights[1:], opinions[1:], strict=True):
        total = total + weight * opinion
    mean: np.ndarray = total
    return mean


def _checked(probabilities: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if probabilities.ndim != 3 or probabilities.shape[2] != 3 or not len(probabilities):
        raise DataError(
            f"opinions of shape {probabilities.shape}", expected="(opinions, rows, 3), at least one opinion"
        )
    count = len(probabilities)
    if weights is None:
        return np.full(count, 1 / count)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (count,) or not (weights >= 0).all() or not abs(weights.sum() - 1) < _ROUNDING:
        raise DataError(f"weights {weights.tolist()} for {count} opinions", expected=f"{count} numbers >= 0 with sum 1")
    return weights
