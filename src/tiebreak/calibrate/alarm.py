"""The collapse alarm: calibrations that should not be used, and why.

A fit can converge, lower its own log-loss and still have found that the teacher is worthless: both scales shrink to
nothing and the bias alone is left, which is the class prior. Nobody sees that in the loss, so it is looked for here.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tiebreak.calibration import FLOOR, Calibration
from tiebreak.errors import CollapseError
from tiebreak.scoring import Estimate

MINIMUM_INFORMATION: Final = 0.003
"""In nats: by how much calibrated predictions must differ from their mean. For comparison, knowing which answer is
longer is worth about .02 on arena votes, and a good judge .15."""

MINIMUM_REACH: Final = 0.1
"""A map that moves no log-odds by this much, whatever the input (probabilities are floored at 1e-12), is a constant."""

CONSTANT: Final = 1e-6
"""A column of probabilities whose range is below this was not predicted row by row."""

SIGN_MARGIN: Final = 0.1
"""A negative scale is a change of sign from this share of the larger scale on; below, it is a zero with noise."""

_ROUNDING: Final = 1e-9

_CONTRASTS: Final = {"A-against-B": np.array([1.0, -1.0, 0.0]), "tie": np.array([-0.5, -0.5, 1.0])}


def scales(calibration: Calibration) -> dict[str, float]:
    """How strongly each part of the verdict passes through the map: 1 unchanged, 0 lost, below 0 turned round.

    For temperature both are 1 / T. They do not depend on which of the equivalent softmax forms the map is written in.
    """
    weight = np.array(calibration.weight)
    return {name: float(c @ weight @ c / (c @ c)) for name, c in _CONTRASTS.items()}


def map_faults(calibration: Calibration) -> list[str]:
    """What is wrong with a map by itself, without any data; empty when nothing is."""
    found = scales(calibration)
    faults = []
    if max(abs(scale) for scale in found.values()) * -np.log(FLOOR) < MINIMUM_REACH:
        faults.append(
            "the scales vanish (" + ", ".join(f"{name} {scale:.1e}" for name, scale in found.items())
            + "): whatever the judge says, the result is a constant"
        )  # fmt: skip
    largest = max(abs(scale) for scale in found.values())
    negative = [f"{name} {scale:.3g}" for name, scale in found.items() if scale < -SIGN_MARGIN * largest]
    if negative:
        faults.append(f"the scale changes sign ({', '.join(negative)}): the judge's verdict would be turned round")
    return faults


def information(probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Mean distance (Kullback-Leibler, in nats) of predictions from their own mean: 0 for a constant.

    It is what a calibrated judge gains in log-loss over its own average, so it needs no labels.
    """
    mean = np.average(probabilities, axis=0, weights=weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probabilities > 0, probabilities * np.log(probabilities / mean), 0.0)
    return float(np.average(terms.sum(axis=1), weights=weights))


def fit_faults(
    calibration: Calibration, probabilities: np.ndarray, weights: np.ndarray, *, has_ties: bool = True
) -> list[str]:
    """What is wrong with a map on the rows it was fitted on: the map itself, its input and its output."""
    if np.ptp(probabilities, axis=0).max() < CONSTANT:
        return ["the judge says the same for every row"]
    ties = probabilities[:, 2]
    faults = []
    if has_ties and np.ptp(ties) < CONSTANT:
        faults.append(f"p_tie is {ties[0]:.4g} in every row although people do vote tie: it was made up, not predicted")
    left = information(calibration.apply(probabilities), weights)
    if left < MINIMUM_INFORMATION:
        # The signs of scales that are noise around zero mean nothing, so they are not reported beside this.
        found = ", ".join(f"{name} {scale:.2g}" for name, scale in scales(calibration).items())
        faults.append(
            f"after calibration the predictions are hardly more than a constant (information {left:.5f} nats, "
            f"at least {MINIMUM_INFORMATION} wanted; scales {found})"
        )
    else:
        faults += map_faults(calibration)
    return faults


def skill_faults(against_prior: Estimate) -> list[str]:
    """Whether cross-validated log-loss minus that of the class prior is below zero with its whole interval."""
    if against_prior.high < -_ROUNDING:
        return []
    return [f"cross-validated log-loss is not better than the class prior's (difference {against_prior})"]


def refuse(faults: list[str], what: str) -> None:
    """Raise if there are faults.

    Raises:
        CollapseError: With all the reasons.
    """
    if faults:
        raise CollapseError(
            f"{what} is refused: " + "; ".join(faults),
            expected="a judge that knows more about the votes than how often each class occurs",
            mend="look at the judge and at how its rows were joined to the votes; --force uses it all the same",
        )
