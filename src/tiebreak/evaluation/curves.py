"""The tables behind the pictures: a picture draws its table and nothing else, and the table is written beside it."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from tiebreak.comparisons import LABELS
from tiebreak.evaluation.sample import Sample
from tiebreak.evaluation.slices import Slice
from tiebreak.scoring import metrics
from tiebreak.scoring.bootstrap import Estimate, ratio

BINS: Final = 10
ROWS_A_BIN: Final = 20
COVERAGE: Final = tuple(round(0.05 * step, 2) for step in range(1, 21))
MIN_ANSWERED: Final = 10


def build(
    sample: Sample, slices: list[Slice], losses: dict[str, Estimate], overall: Estimate | None
) -> dict[str, pl.DataFrame]:
    """Every curve that the sample allows, by the name of its picture and CSV file.

    Args:
        sample: The votes and the judge's probabilities.
        slices: The slices, for the paired differences.
        losses: Log-loss of the judge and of what it is held against, by a name of ours.
        overall: Difference of log-loss over all votes, where two judges are compared.
    """
    found = {
        "confusion": confusion(sample),
        "log_loss": log_loss(losses),
        "reliability": reliability(sample),
        "histogram": histogram(sample),
        "risk_coverage": risk_coverage(sample),
        "tie_calibration": tie_calibration(sample),
    }
    if sample.has_answers:
        found["length"] = length(sample)
    if overall is not None:
        found["difference"] = difference(len(sample.targets), slices, overall)
    return found


def confusion(sample: Sample) -> pl.DataFrame:
    """Counts by vote and verdict, with the share of the vote's row."""
    counts = metrics.confusion(sample.probabilities, sample.targets, sample.weights)
    shares = ratio(counts, counts.sum(axis=1, keepdims=True))
    cells = [(i, j) for i in range(3) for j in range(3)]
    return pl.DataFrame(
        {
            "vote": [LABELS[i] for i, _ in cells],
            "verdict": [LABELS[j] for _, j in cells],
            "count": [float(counts[cell]) for cell in cells],
            "share_of_vote": [float(shares[cell]) for cell in cells],
        }
    )


def log_loss(losses: dict[str, Estimate]) -> pl.DataFrame:
    """Log-loss with its interval, of the judge and of what it is held against."""
    return pl.DataFrame(
        {
            "judge": list(losses),
            "log_loss": [loss.value for loss in losses.values()],
            "low": [loss.low for loss in losses.values()],
            "high": [loss.high for loss in losses.values()],
        }
    )


def reliability(sample: Sample) -> pl.DataFrame:
    """For each class, in bins of its probability: mean probability, share of votes with interval, count."""
    parts = []
    for k, label in enumerate(LABELS):
        p, t = sample.probabilities[:, k], sample.targets[:, k]
        bins = metrics.equal_mass_bins(p, _bins(sample), sample.weights)
        parts.append(_binned(sample, bins, {"predicted": p}, t).insert_column(0, pl.lit(label).alias("class")))
    return pl.concat(parts)


def histogram(sample: Sample) -> pl.DataFrame:
    """For each class, how many votes got a probability in each twentieth of 0 to 1."""
    edges = np.linspace(0, 1, 21)
    parts = [
        pl.DataFrame(
            {"from": edges[:-1], "to": edges[1:], "count": np.histogram(sample.probabilities[:, k], edges)[0]}
        ).insert_column(0, pl.lit(label).alias("class"))
        for k, label in enumerate(LABELS)
    ]
    return pl.concat(parts)


def tie_calibration(sample: Sample) -> pl.DataFrame:
    """In bins of P(tie): mean P(tie), share of ties with interval, share of tie verdicts."""
    p = sample.probabilities[:, 2]
    bins = metrics.equal_mass_bins(p, _bins(sample), sample.weights)
    said = (sample.verdicts == 2).astype(np.float64)
    return _binned(sample, bins, {"predicted": p, "tie_verdicts": said}, sample.targets[:, 2])


def length(sample: Sample) -> pl.DataFrame:
    """In bins of the length ratio A : B: share won by A among votes for A or B, human with interval, and predicted."""
    bins = metrics.equal_mass_bins(sample.log_ratio, _bins(sample), sample.weights)
    size = int(bins.max()) + 1
    stack = np.concatenate([sample.targets[:, :2], sample.probabilities[:, :2]], axis=1) * sample.weights[:, None]
    sums = sample.bootstrap.sum(stack, by=bins, size=size)
    human = ratio(sums[:, :, 0], sums[:, :, 0] + sums[:, :, 1])
    predicted = ratio(sums[0, :, 2], sums[0, :, 2] + sums[0, :, 3])
    rows = np.bincount(bins, minlength=size)
    middle = [float(np.exp(np.median(sample.log_ratio[bins == k]))) if rows[k] else np.nan for k in range(size)]
    low, high = _bounds(human)
    return pl.DataFrame(
        {"length_ratio": middle, "count": rows, "predicted": predicted, "actual": human[0], "low": low, "high": high}
    ).filter(pl.col("count") > 0)


def risk_coverage(sample: Sample) -> pl.DataFrame:
    """If only the votes with the most confident verdicts are answered: accuracy and log-loss of those, by their share.

    Confidence thresholds come from the data itself and stay fixed over the resamples.
    """
    sure = metrics.confidence(sample.probabilities)
    hits = metrics.row_hits(sample.probabilities, sample.targets)
    loss = metrics.row_log_loss(sample.probabilities, sample.targets)
    stack = np.stack([np.ones_like(sure), hits, loss], axis=1) * sample.weights[:, None]
    thresholds = np.unique(np.quantile(sure, 1 - np.array(COVERAGE), method="higher"))[::-1]
    # A row is answered from the first threshold on that it reaches: sums up to there are running sums.
    entry = (sure[:, None] < thresholds).sum(axis=1)
    sums = sample.bootstrap.sum(stack, by=entry, size=len(thresholds)).cumsum(axis=1)
    counts = np.bincount(entry, minlength=len(thresholds)).cumsum()
    rows = []
    for k in np.flatnonzero(counts >= MIN_ANSWERED):
        accuracy, log_loss = (Estimate.of(ratio(sums[:, k, column], sums[:, k, 0])) for column in (1, 2))
        rows.append(
            {
                "answered": float(ratio(sums[0, k, 0], sample.total_weight[0])), "threshold": float(thresholds[k]),
                "count": int(counts[k]),
                "accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high,
                "log_loss": log_loss.value, "log_loss_low": log_loss.low, "log_loss_high": log_loss.high,
            }
        )  # fmt: skip
    names = ("answered", "threshold", "count", "accuracy", "accuracy_low", "accuracy_high",
             "log_loss", "log_loss_low", "log_loss_high")  # fmt: skip
    schema = {name: pl.Int64 if name == "count" else pl.Float64 for name in names}
    return pl.DataFrame(rows, schema=schema)


def difference(rows: int, slices: list[Slice], overall: Estimate) -> pl.DataFrame:
    """Log-loss minus that of the other judge, over all votes and in every slice that is not small."""
    found = [("all votes", "all votes", rows, overall)]
    found += [
        (part.dimension, part.name, part.rows, part.difference)
        for part in slices
        if part.difference is not None and not part.small
    ]
    return pl.DataFrame(
        {
            "dimension": [dimension for dimension, *_ in found],
            "slice": [name for _, name, *_ in found],
            "count": [count for *_, count, _ in found],
            "difference": [estimate.value for *_, estimate in found],
            "low": [estimate.low for *_, estimate in found],
            "high": [estimate.high for *_, estimate in found],
        }
    )


def _bins(sample: Sample) -> int:
    return int(np.clip(len(sample.targets) // ROWS_A_BIN, 2, BINS))


def _binned(sample: Sample, bins: np.ndarray, means: dict[str, np.ndarray], actual: np.ndarray) -> pl.DataFrame:
    """Means of some values and of what really happened, the latter with its interval, in each bin that has rows."""
    size = int(bins.max()) + 1
    stack = np.stack([np.ones_like(actual), actual, *means.values()], axis=1) * sample.weights[:, None]
    sums = sample.bootstrap.sum(stack, by=bins, size=size)
    share = ratio(sums[:, :, 1:], sums[:, :, :1])
    low, high = _bounds(share[:, :, 0])
    columns = {name: share[0, :, 1 + k] for k, name in enumerate(means)}
    table = {"count": np.bincount(bins, minlength=size), **columns, "actual": share[0, :, 0], "low": low, "high": high}
    return pl.DataFrame(table).filter(pl.col("count") > 0)


def _bounds(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the interval of each column; NaN where there are no resamples."""
    estimates = [Estimate.of(column) for column in draws.T]
    return np.array([e.low for e in estimates]), np.array([e.high for e in estimates])
