"""Three ways in which judges go wrong unseen: by position, by length, and on ties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.evaluation.sample import MIRROR, Sample
from tiebreak.predictions import verdicts
from tiebreak.scoring.bootstrap import Estimate, ratio

TITLES: Final[dict[str, str]] = {
    "first_share_actual": "Votes for A among votes for A or B",
    "first_share_verdicts": "Verdicts for A among verdicts for A or B",
    "first_share_predicted": "P(A) / (P(A) + P(B)), over all votes",
    "first_share_gap": "Predicted minus actual share of A",
    "swap_gap": "Largest change of a probability when the answers change places, mean",
    "verdict_flips": "Verdicts that change when the answers change places",
    "longer_share_actual": "Votes for the longer answer among votes for either",
    "longer_share_predicted": "Predicted share of the longer answer",
    "longer_share_gap": "Predicted minus actual share of the longer answer",
    "length_correlation_actual": "Correlation of log length ratio with the vote (A = 1, B = -1, tie = 0)",
    "length_correlation_predicted": "Correlation of log length ratio with P(A) - P(B)",
    "length_slope_actual": "Gain of A over B for each doubling of its length, votes",
    "length_slope_predicted": "The same gain, predicted",
    "tie_share_actual": "Ties among the votes",
    "tie_share_predicted": "Mean P(tie)",
    "tie_share_gap": "Mean P(tie) minus share of ties",
    "tie_verdicts": "Verdicts that are a tie",
    "tie_recall": "Ties that the verdict finds (recall)",
    "tie_precision": "Tie verdicts that are ties (precision)",
}

TINY: Final = 1e-12


@dataclass(frozen=True)
class Audit:
    """Figures on one kind of bias, and what could not be measured with the reason."""

    figures: dict[str, Estimate]
    not_measured: dict[str, str]


def measure(sample: Sample, swapped: np.ndarray | None, swap_gap: np.ndarray) -> dict[str, Audit]:
    """The audits by position, length and tie.

    Args:
        sample: The votes and the judge's probabilities.
        swapped: Probabilities that the judge gave for the mirrored comparisons, as given there, or None.
        swap_gap: What the judge says of itself, a row a vote; NaN where unknown.
    """
    return {
        "position": _position(sample, swapped, swap_gap),
        "length": _length(sample),
        "tie": _tie(sample),
    }


def _position(sample: Sample, swapped: np.ndarray | None, swap_gap: np.ndarray) -> Audit:
    t, p = sample.targets, sample.probabilities
    said = np.eye(3)[sample.verdicts]
    # An average of many columns at once is one pass over the resamples.
    votes_a, votes_b, p_a, p_b, said_a, said_b = sample.mean(np.concatenate([t[:, :2], p[:, :2], said[:, :2]], 1)).T
    actual, predicted = ratio(votes_a, votes_a + votes_b), ratio(p_a, p_a + p_b)
    figures = {
        "first_share_actual": Estimate.of(actual),
        "first_share_verdicts": Estimate.of(ratio(said_a, said_a + said_b)),
        "first_share_predicted": Estimate.of(predicted),
        "first_share_gap": Estimate.of(predicted - actual),
    }
    missing: dict[str, str] = {}
    if swapped is not None:
        back = swapped[:, MIRROR]
        figures["swap_gap"] = sample.estimate(np.abs(p - back).max(axis=1))
        figures["verdict_flips"] = sample.estimate((verdicts(p) != verdicts(back)).astype(np.float64))
        return Audit(figures, missing)
    if np.isnan(swap_gap).any():
        missing["swap_gap"] = "the predictions do not say; predict the mirrored votes too and give them as --swapped"
    else:
        figures["swap_gap"] = sample.estimate(swap_gap)
    if not np.isnan(swap_gap).any() and not swap_gap.any():
        # The judge is swap-equivariant by construction: both orders give the same verdict.
        figures["verdict_flips"] = sample.estimate(np.zeros(len(t)))
    else:
        missing["verdict_flips"] = "needs predictions of the mirrored votes: --swapped"
    return Audit(figures, missing)


def _length(sample: Sample) -> Audit:
    names = [name for name in TITLES if name.startswith(("longer", "length"))]
    if not sample.has_answers:
        return Audit({}, dict.fromkeys(names, "the votes carry no answer texts"))
    side = np.sign(sample.log_ratio)
    shares = [_longer_share(sample, side, values) for values in (sample.targets, sample.probabilities)]
    figures = {
        "longer_share_actual": Estimate.of(shares[0]),
        "longer_share_predicted": Estimate.of(shares[1]),
        "longer_share_gap": Estimate.of(shares[1] - shares[0]),
    }
    doublings = sample.log_ratio / np.log(2)
    for name, values in (("actual", sample.targets), ("predicted", sample.probabilities)):
        correlation, slope = _association(sample, doublings, values[:, 0] - values[:, 1])
        figures[f"length_correlation_{name}"] = Estimate.of(correlation)
        figures[f"length_slope_{name}"] = Estimate.of(slope)
    return Audit({name: figures[name] for name in names}, {})


def _longer_share(sample: Sample, side: np.ndarray, values: np.ndarray) -> np.ndarray:
    longer = np.where(side > 0, values[:, 0], np.where(side < 0, values[:, 1], 0))
    sums = sample.means(longer=longer, either=(side != 0) * (values[:, 0] + values[:, 1]))
    return ratio(sums["longer"], sums["either"])


def _association(sample: Sample, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation and least-squares slope of y on x; NaN where x does not vary."""
    mean = sample.means(x=x, y=y, xx=x * x, yy=y * y, xy=x * y)
    # Differences of moments cancel to a tiny number, not to 0, where nothing varies.
    var_x, var_y = mean["xx"] - mean["x"] ** 2, mean["yy"] - mean["y"] ** 2
    var_x[var_x < TINY] = 0
    var_y[var_y < TINY] = 0
    together = mean["xy"] - mean["x"] * mean["y"]
    return ratio(together, np.sqrt(var_x * var_y)), ratio(together, var_x)


def _tie(sample: Sample) -> Audit:
    tie, p_tie = sample.targets[:, 2], sample.probabilities[:, 2]
    said = (sample.verdicts == 2).astype(np.float64)
    mean = sample.means(tie=tie, p_tie=p_tie, gap=p_tie - tie, said=said, found=said * tie)
    figures = {
        "tie_share_actual": mean["tie"],
        "tie_share_predicted": mean["p_tie"],
        "tie_share_gap": mean["gap"],
        "tie_verdicts": mean["said"],
        "tie_recall": ratio(mean["found"], mean["tie"]),
        "tie_precision": ratio(mean["found"], mean["said"]),
    }
    return Audit({name: Estimate.of(draws) for name, draws in figures.items()}, {})
