"""What needs no judge at all, scored on the same votes: a judge that does not beat these has learnt nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tiebreak.evaluation.sample import Sample
from tiebreak.evaluation.scores import averages
from tiebreak.scoring import metrics
from tiebreak.scoring.bootstrap import Estimate

FOLDS: Final = 5
LENGTH_BINS: Final = 8
PSEUDO_VOTES: Final = 5.0


@dataclass(frozen=True)
class Baseline:
    """A judge without a model.

    Attributes:
        title: Its name for people.
        how: How its probabilities come about.
        metrics: Log-loss, accuracy, accuracy without ties and Brier score, as far as it has them.
        difference: Log-loss of the judge minus log-loss of the baseline, on the same resamples; below 0 the judge is
            better. None where the baseline has no probabilities.
    """

    title: str
    how: str
    metrics: dict[str, Estimate]
    difference: Estimate | None


def measure(sample: Sample, *, seed: int = 0) -> dict[str, Baseline]:
    """All baselines that the sample allows; the two that look at length need answers with text."""
    prior = np.average(sample.targets, axis=0, weights=sample.weights)
    found = {
        "uniform": _constant(sample, "Uniform", "1/3 for each class; accuracy of a guess", np.full(3, 1 / 3)),
        "prior": _constant(sample, "Class prior", "the class shares of these very votes: the best constant", prior),
    }
    if not sample.has_answers:
        return found
    how = f"class shares by length difference, {FOLDS}-fold cross-fitted by group"
    found["length"] = _score(sample, "Length only", how, cross_fitted_length(sample, seed=seed))
    found["longer_wins"] = _longer_wins(sample)
    return found


def _score(sample: Sample, title: str, how: str, probabilities: np.ndarray) -> Baseline:
    difference = metrics.row_log_loss(sample.probabilities, sample.targets) - metrics.row_log_loss(
        probabilities, sample.targets
    )
    return Baseline(title, how, averages(sample, probabilities), sample.estimate(difference))


def _constant(sample: Sample, title: str, how: str, shares: np.ndarray) -> Baseline:
    """The same probabilities for all. Its accuracy is that of naming one of its likeliest classes at random.

    By the rule for verdicts a draw of A and B would be a tie, which says nothing about a constant.
    """
    found = _score(sample, title, how, np.tile(shares, (len(sample.targets), 1)))
    likeliest = np.isclose(shares, shares.max())
    hits = sample.targets[:, likeliest].mean(axis=1)
    return replace(found, metrics=found.metrics | {"accuracy": sample.estimate(hits)})


def _longer_wins(sample: Sample) -> Baseline:
    """The verdict alone: it has no probabilities, so no log-loss."""
    longer = np.where(sample.log_ratio > 0, 0, np.where(sample.log_ratio < 0, 1, 2))
    certain = np.eye(3)[longer]
    figures = {
        "accuracy": sample.estimate(metrics.row_hits(certain, sample.targets)),
        "decisive_accuracy": sample.share(
            metrics.row_decisive_hits(certain, sample.targets), sample.targets[:, :2].sum(axis=1)
        ),
    }
    return Baseline("Longer answer wins", "equal lengths are a tie", figures, None)


def cross_fitted_length(sample: Sample, *, seed: int = 0) -> np.ndarray:
    """Probabilities from the length difference alone, for each row learnt from the other folds' groups.

    Rows are binned by how many times as long the longer answer is; a bin says how often the longer one wins, how often
    the shorter, how often it is a tie. Which side is longer decides who is who: exactly swap-equivariant.
    """
    spread = np.abs(sample.log_ratio)
    bins = 1 + metrics.equal_mass_bins(spread, LENGTH_BINS, sample.weights)
    bins[spread == 0] = 0
    a_is_longer = sample.log_ratio >= 0
    # Columns: longer, shorter, tie.
    oriented = np.where(a_is_longer[:, None], sample.targets, sample.targets[:, [1, 0, 2]])
    weighted = oriented * sample.weights[:, None]
    fold = _folds(sample.groups, seed)
    shares = np.empty_like(oriented)
    for k in range(fold.max() + 1):
        rates = _rates(bins[fold != k], weighted[fold != k])
        shares[fold == k] = rates[bins[fold == k]]
    sided: np.ndarray = np.where(a_is_longer[:, None], shares, shares[:, [1, 0, 2]])
    return sided


def _folds(groups: np.ndarray, seed: int) -> np.ndarray:
    count = int(groups.max()) + 1
    fold: np.ndarray = (np.random.default_rng(seed).permutation(count) % FOLDS)[groups]
    return fold


def _rates(bins: np.ndarray, weighted: np.ndarray) -> np.ndarray:
    """Shares of longer, shorter and tie for each bin, drawn towards the overall shares by a few pseudo-votes."""
    total = weighted.sum(axis=0) + 1.0
    side = (total[0] + total[1]) / 2
    even = np.array([side, side, total[2]]) / (side + side + total[2])
    sums = np.stack([np.bincount(bins, weights=w, minlength=LENGTH_BINS + 1) for w in weighted.T], axis=1)
    sums[0, :2] = sums[0, :2].sum() / 2
    smooth = sums + PSEUDO_VOTES * even
    rates: np.ndarray = smooth / smooth.sum(axis=1, keepdims=True)
    return rates
