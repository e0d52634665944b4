"""The linear parts: a weighted sum of standardised, clipped features.

Sums run feature by feature instead of through BLAS, whose order of addition depends on the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Linear:
    """Weights on `clip((x - centre) / scale, -bound, bound)`.

    With a centre of zero everywhere and no intercept it is odd: -x gives exactly minus the score of x.
    """

    centre: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    intercept: float = 0.0
    bound: float = 3.0

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What each feature adds, shape (rows, features); with the intercept they sum to `predict`."""
        standard = np.clip((matrix - self.centre) / self.scale, -self.bound, self.bound)
        result: np.ndarray = standard * self.weight
        return result

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """The weighted sums, one a row."""
        total = np.zeros(len(matrix))
        for column in self.contributions(matrix).T:
            total += column
        return total + self.intercept

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """As named arrays, for safetensors."""
        numbers = np.array([self.intercept, self.bound])
        return {
            f"{prefix}.centre": self.centre,
            f"{prefix}.scale": self.scale,
            f"{prefix}.weight": self.weight,
            f"{prefix}.numbers": numbers,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], prefix: str, columns: int) -> Self:
        """The reverse of `tensors`.

        Raises:
            KeyError: An array is missing.
            ValueError: An array has not one number for each of the columns, or one is not finite.
        """
        intercept, bound = (float(number) for number in tensors[f"{prefix}.numbers"])
        centre, scale, weight = (
            tensors[f"{prefix}.{name}"].astype(np.float64) for name in ("centre", "scale", "weight")
        )
        if any(part.shape != (columns,) or not np.isfinite(part).all() for part in (centre, scale, weight)):
            raise ValueError(f"{prefix} does not hold {columns} finite weights")
        return cls(centre, scale, weight, intercept, bound)
