"""Which comparisons go on to the next judge: those where it is expected to be worth more than it costs.

What asking the next judge brings is a log-loss saved, in nats. It is expected from what the judges asked so far said:
by how undecided they are (`entropy`), by how little A and B differ (`margin`), or by a small regression on both, on the
tie and on the judges' disagreement (`gain`), which also learns where a judge is surer than it should be. Nothing here
tells A from B, and every sum is written out, so that a row and its swapped twin take the same way, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import AllowInfNan, BaseModel, ConfigDict

from tiebreak.calibration import FLOOR
from tiebreak.pooling.pools import logs, over_classes

Number = Annotated[float, AllowInfNan(False)]
Name = Literal["entropy", "margin", "gain"]
NAMES: Final[tuple[Name, ...]] = ("entropy", "margin", "gain")
"""From the one that asks least of the votes."""

FARTHEST: Final = 6.0
"""Log-odds beyond these count as these: a regression must not run away where few votes are."""

NEAR: Final = 1e-6
"""Nats: a row whose worth is so near to the price might go the other way on a machine that rounds otherwise."""


class Route(BaseModel):
    """Whether a row goes on: if its expected worth is above the price.

    Attributes:
        by: What the worth is expected from.
        bias: Of the regression, in nats.
        weights: Of the regression, one for each number that `features` gives.
        price: What going on costs, in nats: the next judge's cost at the price of a unit of cost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Name
    bias: Number
    weights: tuple[Number, ...]
    price: Number

    def worth(self, answer: np.ndarray, opinions: np.ndarray) -> np.ndarray:
        """Nats that going on is expected to save, before its price, shape (rows,).

        Args:
            answer: What would be answered now, shape (rows, 3).
            opinions: What the judges asked so far said, shape (k, rows, 3).
        """
        return self.of(features(self.by, answer, opinions))

    def of(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """The worth from the numbers that `features` gives."""
        found = np.full(len(values[0]), self.bias)
        for weight, column in zip(self.weights, values, strict=True):
            found = found + weight * column
        return found

    def goes_on(self, worth: np.ndarray) -> np.ndarray:
        """Which rows are worth more than the price."""
        on: np.ndarray = worth > self.price
        return on


def features(by: str, answer: np.ndarray, opinions: np.ndarray) -> list[np.ndarray]:
    """What the worth is expected from, each of shape (rows,), the same for a row and its swapped twin."""
    log = logs(answer)
    if by == "margin":
        return [-np.abs(answer[:, 0] - answer[:, 1])]
    entropy = -over_classes(answer * log)
    if by == "entropy":
        return [entropy]
    lead = np.minimum(np.abs(log[:, 0] - log[:, 1]), FARTHEST)
    tie = np.clip(log[:, 2] - np.log(np.maximum(answer[:, 0] + answer[:, 1], FLOOR)), -FARTHEST, FARTHEST)
    found = [entropy, lead, tie, lead * lead, tie * tie, lead * tie]
    return found if len(opinions) < 2 else [*found, _disagreement(opinions)]


def _disagreement(opinions: np.ndarray) -> np.ndarray:
    """Jeffreys' divergence of the last two opinions, in nats."""
    last, before = opinions[-1], opinions[-2]
    return over_classes((last - before) * (logs(last) - logs(before)))
