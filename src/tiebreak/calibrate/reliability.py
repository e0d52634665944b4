"""What was said against what happened: a short reliability table of one method, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.calibrate.nested import AS_IS, Study
from tiebreak.comparisons import LABELS
from tiebreak.scoring.metrics import equal_mass_bins

BINS: Final = 5


@dataclass(frozen=True)
class Bin:
    """Rows whose probability of one class was alike before calibration.

    Attributes:
        label: The class.
        rows: How many rows.
        before: Mean probability as it came.
        after: Mean probability after calibration, out of fold.
        seen: Share of the votes.
    """

    label: str
    rows: int
    before: float
    after: float
    seen: float


def reliability(study: Study, method: str, count: int = BINS) -> list[Bin]:
    """Equal-mass bins of each class by the probability before; empty bins are left out."""
    rows, before, after = study.rows, study.results[AS_IS].probabilities, study.results[method].probabilities
    table = []
    for k, label in enumerate(LABELS):
        bins = equal_mass_bins(before[:, k], count, rows.weights)
        for number in np.unique(bins):
            inside = bins == number
            means = (np.average(p[inside, k], weights=rows.weights[inside]) for p in (before, after, rows.targets))
            table.append(Bin(label, int(inside.sum()), *(float(mean) for mean in means)))
    return table
