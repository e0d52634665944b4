"""The families of maps that can be fitted, each a linear space of affine maps on log-probabilities.

A map is the 3 x 4 matrix M = [W | b]; a family is M = sum of theta_k * basis_k. One fitting routine then serves all of
them, and a swap-symmetric family gives W_aa = W_bb to the last bit because both entries are the same number.

Softmax does not see a constant added to all three logits, so biases are kept at sum zero. For Dirichlet the same
freedom exists in every column of W; there the penalty on the off-diagonal entries picks the one representative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.calibration import Calibration, Method

_A_AGAINST_B: Final = (0.5, -0.5, 0.0)
_TIE_AGAINST_BOTH: Final = (-1 / 3, -1 / 3, 2 / 3)


@dataclass(frozen=True)
class Family:
    """One family of maps.

    Attributes:
        name: As users type it.
        saved_as: `Calibration.method` of its members.
        parameters: How many numbers the data decide, the softmax freedom not counted.
        basis: float64 of shape (k, 3, 4).
        identity: The theta that changes nothing, where fitting starts.
        penalties: Candidates for the strength of the penalty, chosen by cross-validation; empty where there is none.
    """

    name: str
    saved_as: Method
    parameters: int
    basis: np.ndarray
    identity: np.ndarray
    penalties: tuple[float, ...] = ()

    @property
    def has_bias(self) -> bool:
        """Whether the family can shift a class, and so needs votes for every class."""
        return bool((self.basis[:, :, 3] != 0).any())

    def calibration(self, theta: np.ndarray) -> Calibration:
        """The member of the family at theta."""
        matrix = np.tensordot(theta, self.basis, axes=1)
        return Calibration(
            method=self.saved_as,
            weight=tuple(tuple(float(x) for x in row[:3]) for row in matrix),  # type: ignore[arg-type]
            bias=tuple(float(x) for x in matrix[:, 3]),  # type: ignore[arg-type]
        )


def _weight(*entries: tuple[int, int]) -> np.ndarray:
    direction = np.zeros((3, 4))
    for row, column in entries:
        direction[row, column] = 1.0
    return direction


def _bias(values: tuple[float, float, float]) -> np.ndarray:
    direction = np.zeros((3, 4))
    direction[:, 3] = values
    return direction


def _family(
    name: str, saved_as: Method, parameters: int, directions: list[np.ndarray], penalties: tuple[float, ...] = ()
) -> Family:
    basis = np.stack(directions)
    # Every family is spanned by diagonal, off-diagonal and bias directions; the identity is the diagonal ones at 1.
    identity = np.array([float(np.trace(direction) > 0) for direction in directions])
    return Family(name, saved_as, parameters, basis, identity, penalties)


_PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        _family("temperature", "temperature", 1, [_weight((0, 0), (1, 1), (2, 2))]),
        _family(
            "symmetric", "symmetric", 3,
            [_weight((0, 0), (1, 1)), _weight((2, 2)), _bias(_TIE_AGAINST_BOTH)],
        ),
        _family(
            "dirichlet-symmetric", "dirichlet", 4,
            [
                _weight((0, 0), (1, 1)), _weight((2, 2)), _weight((0, 1), (1, 0)),
                _weight((0, 2), (1, 2)), _weight((2, 0), (2, 1)), _bias(_TIE_AGAINST_BOTH),
            ],
            _PENALTIES,
        ),
        _family(
            "vector", "vector", 5,
            [*(_weight((k, k)) for k in range(3)), _bias(_A_AGAINST_B), _bias(_TIE_AGAINST_BOTH)],
        ),
        _family(
            "dirichlet", "dirichlet", 8,
            [*(_weight((i, j)) for i in range(3) for j in range(3)), _bias(_A_AGAINST_B), _bias(_TIE_AGAINST_BOTH)],
            _PENALTIES,
        ),
    )
}  # fmt: skip
"""By name, from the fewest parameters to the most."""

METHODS: Final = tuple(FAMILIES)
