"""Does a change to a recipe help? Differences of held-out log-loss on the same rows, over folds and seeds, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from tiebreak import scoring
from tiebreak.scoring import Bootstrap, Estimate
from tiebreak.train.finetune import doctor

HELPS: Final = "helps"
HURTS: Final = "hurts"
UNSEEN: Final = "no difference seen at this size"
NOTHING: Final = "says nothing: no side learned anything"


@dataclass(frozen=True)
class Rows:
    """The rows that were held out, the same for every side.

    Attributes:
        targets: Votes of shape (rows, 3).
        weights: Shape (rows,).
        groups: Shape (rows,): rows of one group go into a resample together.
        prior: Class shares of the rows that were trained on when the row was held out, shape (rows, 3).
    """

    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    prior: np.ndarray

    def log_loss(self, probabilities: np.ndarray) -> float:
        """Weighted mean, in nats."""
        return scoring.log_loss(probabilities, self.targets, self.weights)


@dataclass(frozen=True)
class Side:
    """The recipe with one change, or with none, over all seeds.

    Attributes:
        change: Its name.
        log_loss: Mean over the seeds, in nats.
        accuracy: Mean over the seeds.
        seeds: Log-loss of each seed.
    """

    change: str
    log_loss: float
    accuracy: float
    seeds: list[float]


@dataclass(frozen=True)
class Change(Side):
    """A side against the recipe without the change.

    Attributes:
        difference: Log-loss with the change less that without, in nats: below 0 is better.
        differences: Of each seed.
        verdict: One of `HELPS`, `HURTS`, `UNSEEN`, `NOTHING`.
    """

    difference: Estimate
    differences: list[float]
    verdict: str

    def sentence(self) -> str:
        """The verdict with its figures, for people."""
        found, better = self.difference, sum(value < 0 for value in self.differences)
        told = (
            f"{self.change}: {self.verdict}; log-loss {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] with "
            f"the change, lower in {better} of {len(self.differences)} seeds"
        )
        if self.verdict == UNSEEN:
            return f"{told}; a difference of less than about {(found.high - found.low) / 2:.4f} would not be seen here"
        return told


@dataclass(frozen=True)
class Ablation:
    """What came of it.

    Attributes:
        rows: Held out.
        groups: Of these rows.
        folds: 0 where one part of the votes was held out.
        seeds: Trainings of each side and fold.
        prior_log_loss: Of always predicting the class shares of the training rows.
        without: The recipe as it is.
        changes: The recipe with each change.
        notes: What a person should know beside the figures.
    """

    rows: int
    groups: int
    folds: int
    seeds: int
    prior_log_loss: float
    without: Side
    changes: list[Change]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields and the sentences; a bound that is not defined is null."""
        document = asdict(self)
        for change in document["changes"]:
            bounds = change["difference"]
            change["difference"] = {key: None if math.isnan(value) else value for key, value in bounds.items()}
        return {**document, "sentences": [change.sentence() for change in self.changes]}


def measure(
    rows: Rows, without: np.ndarray, changed: Mapping[str, np.ndarray], *, folds: int, resamples: int = 1000,
    seed: int = 0,
) -> Ablation:  # fmt: skip
    """Compare predictions for the same rows.

    Args:
        rows: What they are measured by.
        without: Probabilities of shape (seeds, rows, 3).
        changed: The same for each change, by its name.
        folds: How many there were.
        resamples: Behind each interval.
        seed: Of the resamples.
    """
    prior = rows.log_loss(rows.prior)
    base = _side("without", without, rows)
    bootstrap = Bootstrap(rows.groups, resamples=resamples, seed=seed)
    changes = []
    for name, p in changed.items():
        side = _side(name, p, rows)
        found = difference(without, p, rows, bootstrap, seed)
        learned = any(doctor.worthless(one.log_loss, prior) is None for one in (base, side))
        each = [new - old for new, old in zip(side.seeds, base.seeds, strict=True)]
        changes.append(Change(**vars(side), difference=found, differences=each, verdict=_verdict(found, learned)))
    return Ablation(
        len(rows.targets), bootstrap.groups, folds, len(without), prior, base, changes, _notes(changes, len(without))
    )


def difference(without: np.ndarray, changed: np.ndarray, rows: Rows, bootstrap: Bootstrap, seed: int) -> Estimate:
    """The mean difference of log-loss, with an interval over rows and over seeds.

    Each resample draws groups of rows and, beside them, seeds: what would be found with other votes and another throw
    of the dice. All differences are of one row under one seed, so that what both sides have in common goes out.
    """
    losses = [
        np.stack([scoring.row_log_loss(p, rows.targets) for p in one], axis=1) for one in (without, changed)
    ]  # fmt: skip
    sums = bootstrap.sum((losses[1] - losses[0]) * rows.weights[:, None])
    means = scoring.bootstrap.ratio(sums, bootstrap.sum(rows.weights)[:, None])
    count = means.shape[1]
    drawn = np.random.default_rng([seed, count]).integers(count, size=(len(means) - 1, count))
    resampled = np.take_along_axis(means[1:], drawn, axis=1).mean(axis=1)
    return Estimate.of(np.concatenate([[means[0].mean()], resampled]))


def _side(name: str, p: np.ndarray, rows: Rows) -> Side:
    seeds = [rows.log_loss(one) for one in p]
    hits = [scoring.accuracy(one, rows.targets, rows.weights) for one in p]
    return Side(name, float(np.mean(seeds)), float(np.mean(hits)), seeds)


def _verdict(found: Estimate, learned: bool) -> str:
    if not learned:
        return NOTHING
    # A bound that is not defined is neither.
    if found.high < 0:
        return HELPS
    return HURTS if found.low > 0 else UNSEEN


def _notes(changes: list[Change], seeds: int) -> list[str]:
    notes = []
    if seeds == 1:
        notes.append("one seed: the interval holds for these very weights; another seed may differ by more (--seeds 3)")
    if len(changes) > 1:
        notes.append(f"{len(changes)} changes: of twenty that do nothing, one looks as if it did")
    if any(change.verdict == NOTHING for change in changes):
        notes.append("neither side is better than the class shares: train longer, or on more votes, and ask again")
    return notes
