"""Both presentation orders of a comparison, so that a table and its swapped twin are computed bit for bit alike.

The two renderings of a row are put in an order that depends on their tokens alone; the engine sees the same sequences
in the same places whichever answer was given as A. What was computed is mirrored back afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from tiebreak import predictions
from tiebreak.render import Rendered, Sequences

MIRROR: Final = [1, 0, 2]


@dataclass(frozen=True)
class Orders:
    """The renderings of a table in canonical order.

    Attributes:
        sequences: 2 x rows: the first and the second rendering of row 0, of row 1, and so on.
        exchanged: bool (rows,): whether the first is the one with the answers exchanged.
        alike: bool (rows,): whether both are the same tokens, as with two equal answers.
    """

    sequences: Sequences
    exchanged: np.ndarray
    alike: np.ndarray

    @classmethod
    def of(cls, given: Rendered, swapped: Rendered) -> Orders:
        """Put the two renderings of each row in canonical order."""
        rows = len(given.sequences)
        pairs = [(one.tobytes(), two.tobytes()) for one, two in zip(given.sequences, swapped.sequences, strict=True)]
        exchanged = np.array([two < one for one, two in pairs], dtype=bool)
        alike = np.array([two == one for one, two in pairs], dtype=bool)
        first = np.arange(rows) + rows * exchanged
        second = np.arange(rows) + rows * ~exchanged
        both = Sequences.concat([given.sequences, swapped.sequences])
        return cls(both.pick(np.stack([first, second], axis=1).ravel()), exchanged, alike)

    def as_given(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities (rows, 3) of the canonical order as those of the order given."""
        return np.where(self.exchanged[:, None], probabilities[:, MIRROR], probabilities)


def joined(first: np.ndarray, second: np.ndarray, twice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of both orders, and how far they disagree.

    Args:
        first: Probabilities (rows, 3) of the first order.
        second: Of the second order, with its own A first; rows that were not computed hold anything.
        twice: bool (rows,): rows whose second order was computed.

    Returns:
        Probabilities (rows, 3) in the frame of the first order, and the gap (rows,), NaN where one order was computed.
    """
    mirrored = second[:, MIRROR]
    mean = np.where(twice[:, None], (first + mirrored) / 2, first)
    gap = np.where(twice, np.abs(first - mirrored).max(axis=1), np.nan)
    return mean, gap


def nearest_to_toss_up(probabilities: np.ndarray, share: float) -> np.ndarray:
    """The share of the rows whose two largest probabilities are closest, at least one row, as bool (rows,).

    The margin does not depend on which answer is A. Equal margins go by the order of the rows.
    """
    rows = len(probabilities)
    ordered = np.sort(probabilities, axis=1)
    margin = ordered[:, 2] - ordered[:, 1]
    chosen = np.zeros(rows, dtype=bool)
    chosen[np.argsort(margin, kind="stable")[: int(np.ceil(share * rows))]] = True
    return chosen


def least_kept(
    given: Rendered, swapped: Rendered, seen_given: np.ndarray, seen_swapped: np.ndarray
) -> tuple[pl.DataFrame, np.ndarray]:
    """The ledger of what was judged: of each text, what the order that kept less of it kept; and which rows were cut.

    Args:
        given: The order given.
        swapped: The other one, in which the answers have changed places.
        seen_given: bool (rows,): rows that were judged in the order given.
        seen_swapped: Rows that were judged in the other; every row was judged in one of them.
    """
    own, back = ["kept_prompt", "kept_a", "kept_b"], ["kept_prompt", "kept_b", "kept_a"]
    unseen = np.iinfo(np.int64).max
    kept = np.minimum(
        np.where(seen_given[:, None], given.ledger.select(own).to_numpy(), unseen),
        np.where(seen_swapped[:, None], swapped.ledger.select(back).to_numpy(), unseen),
    )
    ledger = given.ledger.with_columns(pl.Series(name, column) for name, column in zip(own, kept.T, strict=True))
    return ledger.select(predictions.LEDGER), (given.truncated & seen_given) | (swapped.truncated & seen_swapped)
