"""From a difference of two scores to P(A), P(B), P(tie): the tie models of Davidson and of Rao and Kupper.

With the margin d = scale (s_A - s_B) + length (l_A - l_B), where l is the logarithm of an answer's length:

- Davidson (1970, JASA 65:317): P(A) : P(B) : P(tie) = e^(d/2) : e^(-d/2) : tie. The larger `tie`, the likelier ties.
- Rao and Kupper (1967, JASA 62:194), with h = log tie: P(A) = 1 / (1 + e^(h - d)), P(B) = 1 / (1 + e^(h + d)), and
  the rest is a tie: two answers are told apart only where a noisy difference passes the threshold h.

Both are Bradley and Terry's model where there are no ties (tie 0, and tie 1).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import numpy as np
import polars as pl
from pydantic import AllowInfNan, BaseModel, ConfigDict, model_validator

from tiebreak import comparisons
from tiebreak.predictions import softmax

Family = Literal["davidson", "rao-kupper"]
FAMILIES: Final[tuple[Family, ...]] = ("davidson", "rao-kupper")

DEFAULTS: Final[dict[Family, float]] = {"davidson": 1.0, "rao-kupper": 2.0}
"""The tie parameter before any votes are seen: two answers of equal worth are A, B or a tie with 1/3 each."""

_LEAST: Final = {"davidson": 0.0, "rao-kupper": 1.0}

_TINY: Final = 1e-300

Finite = Annotated[float, AllowInfNan(False)]


class Layer(BaseModel):
    """A tie model with its parameters.

    Attributes:
        family: davidson or rao-kupper.
        scale: What a unit of reward is worth in log-odds.
        tie: Davidson's nu > 0, or the theta > 1 of Rao and Kupper.
        length: What a unit of difference in log length (natural, of characters + 1) is worth in log-odds; 0 ignores it.
        fitted: Whether the figures come from votes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Family = "davidson"
    scale: Finite = 1.0
    tie: Finite = 1.0
    length: Finite = 0.0
    fitted: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.tie <= _LEAST[self.family]:
            raise ValueError(f"tie {self.tie} of {self.family} is not above {_LEAST[self.family]:g}")
        return self

    @classmethod
    def default(cls, family: Family = "davidson") -> Self:
        """The layer before any votes are seen: scale 1, no length, and thirds for answers of equal worth."""
        return cls(family=family, tie=DEFAULTS[family])

    def margin(self, rewards: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """d, float64 (rows,), from s_A - s_B and l_A - l_B. Odd: both differences negated give its exact negative."""
        return np.asarray(self.scale * rewards + self.length * lengths, dtype=np.float64)

    def probabilities(self, rewards: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """P(A), P(B), P(tie), float64 (rows, 3); exchanging the answers exchanges A and B to the last bit.

        Args:
            rewards: float64 (rows,): the score of A minus that of B.
            lengths: float64 (rows,): the log length of A minus that of B (`lengths`).
        """
        return softmax(self.logits(self.margin(rewards, lengths)))

    def logits(self, margin: np.ndarray) -> np.ndarray:
        """Log-probabilities up to a constant of the row, float64 (rows, 3), from d."""
        if self.family == "davidson":
            half = margin / 2
            return np.stack([half, -half, np.full_like(half, np.log(self.tie))], axis=1)
        threshold = np.log(self.tie)
        a, b = -np.logaddexp(0, threshold - margin), -np.logaddexp(0, threshold + margin)
        # P(tie) = (tie^2 - 1) P(A) P(B); for a tie just above 1 expm1 keeps the digits.
        return np.stack([a, b, (a + b) + np.log(np.expm1(2 * threshold))], axis=1)

    def margins(self, probabilities: np.ndarray) -> np.ndarray:
        """d, float64 (rows,), from the probabilities that this layer made of it: `probabilities` undone.

        Of a prediction table this gives back the scores' differences, so that another layer is fitted without reading
        an answer again. It is as exact as the table: float64 keeps margins of some hundreds, rounded figures do not.
        """
        a, b, _ = np.log(np.clip(probabilities, _TINY, None)).T
        if self.family == "davidson":
            return np.asarray(a - b)
        less, more = np.minimum(a, b), np.maximum(a, b)
        # The smaller one has all the digits: log-odds(less) = -h - |d|.
        away = -(np.log(self.tie) + less - np.log1p(-np.exp(less)))
        return np.asarray(np.where(less < more, np.sign(a - b) * np.maximum(away, 0.0), 0.0))


def lengths(table: pl.DataFrame) -> np.ndarray:
    """l_A - l_B of a table of comparisons, float64 (rows,): l = log(1 + characters of all turns of an answer)."""
    a, b = (
        np.log1p(table.select(comparisons.characters(name)).to_series().to_numpy().astype(float))
        for name in ("response_a", "response_b")
    )
    return np.asarray(a - b)
