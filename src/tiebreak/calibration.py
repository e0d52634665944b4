"""A fitted calibration and how it is applied. Fitting is `tiebreak.calibrate`.

All the methods are one affine map on log-probabilities, z' = W log p + b: temperature (W = I / T, b = 0), vector
scaling (W diagonal; Guo et al. 2017, arXiv 1706.04599), its swap-symmetric form (W_aa = W_bb, b_a = b_b) and Dirichlet
calibration (W full; Kull et al. 2019, arXiv 1910.12656).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import numpy as np
from pydantic import AllowInfNan, BaseModel, ConfigDict

from tiebreak.predictions import softmax

Number = Annotated[float, AllowInfNan(False)]
Triple = tuple[Number, Number, Number]
Method = Literal["temperature", "vector", "symmetric", "dirichlet"]

FLOOR: Final = 1e-12
"""Probabilities below this are raised to it before the logarithm, so that an exact 0 stays a number."""

_MIRROR: Final = [1, 0, 2]


class Calibration(BaseModel):
    """An affine map on log-probabilities, saved as plain JSON numbers.

    Attributes:
        method: Name of the family it was fitted in.
        weight: W, rows and columns in the order a, b, tie.
        bias: b, in the same order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method
    weight: tuple[Triple, Triple, Triple]
    bias: Triple

    @property
    def is_symmetric(self) -> bool:
        """Whether swapping A and B before or after calibration is the same."""
        w, b = np.array(self.weight), np.array(self.bias)
        return bool((w == w[_MIRROR][:, _MIRROR]).all() and (b == b[_MIRROR]).all())

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, shape (rows, 3). Exactly mirrored under swap when `is_symmetric`.

        Each class is written out, not left to a matrix product, because BLAS may add in another order for each shape
        and so lose the exact mirror.
        """
        a, b, tie = np.log(np.clip(probabilities, FLOOR, None)).T
        rows = ((wa * a + wb * b) + wt * tie for wa, wb, wt in self.weight)
        logits = np.stack([row + bias for row, bias in zip(rows, self.bias, strict=True)], axis=1)
        return softmax(logits)

    def apply_equivariant(self, probabilities: np.ndarray) -> np.ndarray:
        """As `apply`, averaged over both orders where the map itself is not symmetric.

        A judge that is exactly swap-equivariant stays so under any calibration that is applied this way.
        """
        given = self.apply(probabilities)
        if self.is_symmetric:
            return given
        mirrored = self.apply(probabilities[:, _MIRROR])[:, _MIRROR]
        result: np.ndarray = (given + mirrored) / 2
        return result
