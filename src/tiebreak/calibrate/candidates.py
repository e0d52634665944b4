"""What `tiebreak.calibrate.nested` judges: anything that is fitted to labelled rows and then gives probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tiebreak.calibrate.rows import Needs, Rows
from tiebreak.calibration import Calibration
from tiebreak.scoring import Estimate

if TYPE_CHECKING:
    from tiebreak.judges.reward import Layer


@dataclass(frozen=True)
class Fitted:
    """What a method made of some rows.

    Attributes:
        apply: Its probabilities for other rows, shape (rows, 3).
        faults: Why it should not be used, from the rows that it was fitted on.
        calibration: The map, where it is one.
        penalty: The penalty of that fit, where the method has one.
        layer: The tie model, where it is one.
        intervals: Parameters of the tie model by name: value, low, high.
    """

    apply: Callable[[Rows], np.ndarray]
    faults: tuple[str, ...] = ()
    calibration: Calibration | None = None
    penalty: float | None = None
    layer: Layer | None = None
    intervals: Mapping[str, Estimate] = field(default_factory=dict)


class Candidate(Needs, Protocol):
    """A method to be judged."""

    def fit(self, rows: Any, seed: int) -> Fitted:
        """Fit it to rows.

        Raises:
            CollapseError: It has no finite optimum there.
        """
        ...
