"""All figures of one judge on one sample, each with its interval."""

from __future__ import annotations

from typing import Final

import numpy as np

from tiebreak.comparisons import LABELS
from tiebreak.evaluation.sample import Sample
from tiebreak.predictions import verdicts
from tiebreak.scoring import metrics
from tiebreak.scoring.bootstrap import Estimate, ratio

NAMES: Final[dict[str, str]] = {
    "log_loss": "Log-loss",
    "accuracy": "Accuracy",
    "decisive_accuracy": "Accuracy without ties",
    "decisive_log_loss": "Log-loss without ties",
    "macro_f1": "Macro-F1",
    "brier": "Brier score",
    "ece": "ECE of the verdict",
    "classwise_ece": "ECE, mean of classes",
    "confidence_gap": "Mean confidence minus accuracy",
    **{f"ece_{k}": f"ECE of P({k if k == 'tie' else k.upper()})" for k in LABELS},
    **{f"recall_{k}": f"Recall of {k}" for k in LABELS},
    **{f"precision_{k}": f"Precision of {k}" for k in LABELS},
    **{f"f1_{k}": f"F1 of {k}" for k in LABELS},
    **{f"actual_share_{k}": f"Votes for {k}" for k in LABELS},
    **{f"predicted_share_{k}": f"Mean probability of {k}" for k in LABELS},
    **{f"share_gap_{k}": f"Mean probability minus votes, {k}" for k in LABELS},
}
"""Every metric by its name in JSON and in gates, with the name that people read."""

CALIBRATED_DRAWS: Final = 200


def score(sample: Sample, probabilities: np.ndarray) -> dict[str, Estimate]:
    """Every metric of `NAMES`, in that order."""
    found = {
        **averages(sample, probabilities),
        **_per_class(sample, probabilities),
        **_calibration(sample, probabilities),
        **_shares(sample, probabilities),
    }
    return {name: found[name] for name in NAMES}


def averages(sample: Sample, probabilities: np.ndarray) -> dict[str, Estimate]:
    """Log-loss and accuracy, with and without ties, and the Brier score."""
    targets = sample.targets
    means = sample.means(
        log_loss=metrics.row_log_loss(probabilities, targets),
        accuracy=metrics.row_hits(probabilities, targets),
        brier=metrics.row_brier(probabilities, targets),
        decisive_accuracy=metrics.row_decisive_hits(probabilities, targets),
        decisive_log_loss=metrics.row_decisive_log_loss(probabilities, targets),
        decisive=targets[:, :2].sum(axis=1),
    )
    decisive = means.pop("decisive")
    return {
        name: Estimate.of(ratio(mean, decisive) if name.startswith("decisive") else mean)
        for name, mean in means.items()
    }


def _per_class(sample: Sample, probabilities: np.ndarray) -> dict[str, Estimate]:
    weighted = sample.targets * sample.weights[:, None]
    across = sample.bootstrap.sum(weighted, by=verdicts(probabilities), size=3)
    recall, precision, f1 = metrics.per_class(across.swapaxes(1, 2))
    found = {"macro_f1": Estimate.of(_mean_of_known(f1))}
    for k, label in enumerate(LABELS):
        found[f"recall_{label}"] = Estimate.of(recall[:, k])
        found[f"precision_{label}"] = Estimate.of(precision[:, k])
        found[f"f1_{label}"] = Estimate.of(f1[:, k])
    return found


def _mean_of_known(f1: np.ndarray) -> np.ndarray:
    known = ~np.isnan(f1)
    return ratio(np.where(known, f1, 0).sum(axis=1), known.sum(axis=1))


def _calibration(sample: Sample, probabilities: np.ndarray) -> dict[str, Estimate]:
    pairs = [(metrics.confidence(probabilities), metrics.row_hits(probabilities, sample.targets))]
    pairs += list(zip(probabilities.T, sample.targets.T, strict=True))
    verdict, *classes = (_binned_gap(sample, expected, seen) for expected, seen in pairs)
    found = {f"ece_{label}": Estimate.of(gap, centred=True) for label, gap in zip(LABELS, classes, strict=True)}
    found["confidence_gap"] = sample.estimate(pairs[0][0] - pairs[0][1])
    found["ece"] = Estimate.of(verdict, centred=True)
    found["classwise_ece"] = Estimate.of(np.mean(classes, axis=0), centred=True)
    return found


def _binned_gap(sample: Sample, expected: np.ndarray, seen: np.ndarray) -> np.ndarray:
    bins = metrics.equal_mass_bins(expected, weights=sample.weights)
    difference = sample.bootstrap.sum(sample.weights * (expected - seen), by=bins, size=metrics.BINS)
    return ratio(np.abs(difference).sum(axis=1), sample.total_weight)


def _shares(sample: Sample, probabilities: np.ndarray) -> dict[str, Estimate]:
    both = sample.mean(np.concatenate([probabilities, sample.targets], axis=1))
    predicted, actual = both[:, :3], both[:, 3:]
    found = {}
    for k, label in enumerate(LABELS):
        found[f"actual_share_{label}"] = Estimate.of(actual[:, k])
        found[f"predicted_share_{label}"] = Estimate.of(predicted[:, k])
        found[f"share_gap_{label}"] = Estimate.of(predicted[:, k] - actual[:, k])
    return found


def calibrated_ece(sample: Sample, probabilities: np.ndarray, *, seed: int) -> Estimate:
    """The ECE of the verdict that a perfectly calibrated judge with these probabilities would show by chance.

    Votes are drawn from the probabilities themselves. With few votes the ECE is far from 0 even then; a measured
    ECE inside this interval is no sign of miscalibration.
    """
    sure, verdict = metrics.confidence(probabilities), verdicts(probabilities)
    bins = metrics.equal_mass_bins(sure, weights=sample.weights)
    rng = np.random.default_rng(seed)
    up_to_a, up_to_b = probabilities[:, 0], probabilities[:, :2].sum(axis=1)
    draws = np.empty(1 + CALIBRATED_DRAWS)
    for index in range(1, len(draws)):
        chance = rng.random(len(sure))
        votes = (chance > up_to_a).astype(np.int64) + (chance > up_to_b)
        draws[index] = metrics.gap(sure, (votes == verdict).astype(np.float64), bins, sample.weights)
    draws[0] = draws[1:].mean()
    return Estimate.of(draws)
