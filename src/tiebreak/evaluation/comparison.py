"""Two judges on the same votes: paired differences, so that what is hard for both does not blur who is better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiebreak.evaluation.sample import Sample
from tiebreak.evaluation.scores import averages
from tiebreak.predictions import verdicts
from tiebreak.scoring import metrics
from tiebreak.scoring.bootstrap import Estimate


@dataclass(frozen=True)
class Comparison:
    """This judge against another.

    Attributes:
        other: Name of the other.
        metrics: Log-loss, accuracy, accuracy without ties and Brier score of the other.
        difference: This minus the other, for log_loss, accuracy and brier.
        disagree: Share of votes on which the verdicts differ.
        won: Of the votes where verdicts differ and one of them is right, the share that this judge has right.
    """

    other: str
    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]
    disagree: Estimate
    won: Estimate

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        gap = self.difference["log_loss"]
        if np.isnan(gap.low):
            return f"There are too few groups of votes to tell these predictions and {self.other} apart."
        bounds = f"95 % interval {gap.low:+.4f} to {gap.high:+.4f}"
        if gap.low <= 0 <= gap.high:
            return (
                f"These votes cannot tell the two apart: log-loss differs from {self.other} by {gap.value:+.4f} "
                f"({bounds}, which holds 0)."
            )
        better = "better" if gap.value < 0 else "worse"
        return (
            f"These predictions are {better} than {self.other}: log-loss differs by {gap.value:+.4f} ({bounds}); "
            "chance alone does not explain it."
        )


def compare(sample: Sample, probabilities: np.ndarray, name: str) -> Comparison:
    """Hold the sample's judge against the probabilities of another, on the same resamples."""
    mine, targets = sample.probabilities, sample.targets
    differ = (sample.verdicts != verdicts(probabilities)).astype(np.float64)
    means = sample.means(
        log_loss=metrics.row_log_loss(mine, targets) - metrics.row_log_loss(probabilities, targets),
        accuracy=metrics.row_hits(mine, targets) - metrics.row_hits(probabilities, targets),
        brier=metrics.row_brier(mine, targets) - metrics.row_brier(probabilities, targets),
    )
    difference = {name: Estimate.of(mean) for name, mean in means.items()}
    mine_right = metrics.row_hits(mine, targets) * differ
    other_right = metrics.row_hits(probabilities, targets) * differ
    won = sample.share(mine_right, mine_right + other_right)
    return Comparison(name, averages(sample, probabilities), difference, sample.estimate(differ), won)
