"""What is measured, as plain functions of arrays: probabilities and targets of shape (rows, 3), order a, b, tie.

Targets are one-hot votes or soft labels. With soft labels log-loss is cross-entropy, Brier is the squared distance to
the soft label, and accuracy is the label's mass on the verdict. Rows without a target (NaN) must be left out before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tiebreak.errors import DataError
from tiebreak.predictions import verdicts

FLOOR: Final = float(np.finfo(np.float64).eps)
"""Probabilities below this are raised to it before the logarithm, as scikit-learn does: a certain miss costs 36."""

BINS: Final = 15


def row_log_loss(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy of each row, in nats."""
    loss: np.ndarray = -(targets * np.log(np.clip(probabilities, FLOOR, 1))).sum(axis=1)
    return loss


def row_brier(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Squared distance of each row from its target, summed over the classes (0 to 2)."""
    distance: np.ndarray = ((probabilities - targets) ** 2).sum(axis=1)
    return distance


def row_hits(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The target's mass on the verdict of each row: 1 or 0 for a hard label."""
    hits: np.ndarray = targets[np.arange(len(targets)), verdicts(probabilities)]
    return hits


def row_decisive_hits(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The target's mass on the likelier of a and b; an exact draw between them counts half."""
    lead = np.sign(probabilities[:, 0] - probabilities[:, 1])
    hits: np.ndarray = (targets[:, 0] * (1 + lead) + targets[:, 1] * (1 - lead)) / 2
    return hits


def row_decisive_log_loss(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy between a and b alone, as if there were no ties, weighted by the target's mass on a and b."""
    either = np.clip(probabilities[:, :2].sum(axis=1, keepdims=True), FLOOR, None)
    loss: np.ndarray = -(targets[:, :2] * np.log(np.clip(probabilities[:, :2] / either, FLOOR, 1))).sum(axis=1)
    return loss


def log_loss(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean cross-entropy in nats: lower is better; three equal probabilities give log 3 = 1.0986."""
    return _mean(row_log_loss, probabilities, targets, weights)


def brier(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean squared distance summed over the classes: 0 is best, 2 is certain and wrong."""
    return _mean(row_brier, probabilities, targets, weights)


def accuracy(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of rows whose verdict (`tiebreak.predictions.verdicts`) is the vote."""
    return _mean(row_hits, probabilities, targets, weights)


def decisive_accuracy(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Among votes for a or b: share where the judge gives that answer the higher probability. NaN without any."""
    return _decisive(row_decisive_hits, probabilities, targets, weights)


def decisive_log_loss(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Among votes for a or b: log-loss of P(a) / (P(a) + P(b)); a coin gives log 2 = 0.6931. NaN without any."""
    return _decisive(row_decisive_log_loss, probabilities, targets, weights)


def confusion(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Weighted counts of shape (3, 3): the vote down, the verdict across."""
    weights = _check(probabilities, targets, weights)
    verdict = np.eye(3)[verdicts(probabilities)]
    counts: np.ndarray = (targets * weights[:, None]).T @ verdict
    return counts


def per_class(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, precision and F1 of each class from confusion matrices of shape (..., 3, 3).

    Recall of a class that nobody voted for, precision of one that is never the verdict, and F1 of one that is neither,
    are NaN.
    """
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    voted, said = matrix.sum(axis=-1), matrix.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hit / voted, hit / said, 2 * hit / (voted + said)


def macro_f1(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean F1 over the classes that occur among the votes or the verdicts."""
    f1 = per_class(confusion(probabilities, targets, weights))[2]
    return float(np.nanmean(f1))


def equal_mass_bins(values: np.ndarray, count: int = BINS, weights: np.ndarray | None = None) -> np.ndarray:
    """Bin numbers 0 to count - 1, each bin with nearly the same weight. Equal values share a bin.

    A row's bin is decided by the weight of the rows strictly below it, so the order of rows does not matter and a
    constant lands in one bin.
    """
    weights = np.ones(len(values)) if weights is None else weights
    order = np.argsort(values, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    share = below[np.searchsorted(values[order], values, side="left")] / below[-1]
    # The margin keeps a share such as 3/15 in bin 3 where float arithmetic gives 2.9999999.
    codes: np.ndarray = np.minimum((share * count + 1e-9).astype(np.int64), count - 1)
    return codes


def gap(expected: np.ndarray, seen: np.ndarray, bins: np.ndarray, weights: np.ndarray) -> float:
    """Calibration error: |mean expected - mean seen| of each bin, averaged by the bins' weights."""
    difference = np.bincount(bins, weights=weights * (expected - seen))
    return float(np.abs(difference).sum() / weights.sum())


def confidence(probabilities: np.ndarray) -> np.ndarray:
    """The probability that each row gives to its own verdict."""
    chosen: np.ndarray = probabilities[np.arange(len(probabilities)), verdicts(probabilities)]
    return chosen


def ece(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None, *, bins: int = BINS
) -> float:
    """Expected calibration error of the verdict: confidence against hits in equal-mass bins."""
    weights = _check(probabilities, targets, weights)
    sure = confidence(probabilities)
    return gap(sure, row_hits(probabilities, targets), equal_mass_bins(sure, bins, weights), weights)


def classwise_ece(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None, *, bins: int = BINS
) -> float:
    """Mean over the three classes of the calibration error of that class's probability, in equal-mass bins."""
    weights = _check(probabilities, targets, weights)
    columns = zip(probabilities.T, targets.T, strict=True)
    return float(np.mean([gap(p, t, equal_mass_bins(p, bins, weights), weights) for p, t in columns]))


def _decisive(
    row_score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
) -> float:
    weights = _check(probabilities, targets, weights)
    decisive = float((weights * targets[:, :2].sum(axis=1)).sum())
    return float((weights * row_score(probabilities, targets)).sum()) / decisive if decisive else float("nan")


def _mean(
    row_score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
) -> float:
    weights = _check(probabilities, targets, weights)
    return float((weights * row_score(probabilities, targets)).sum() / weights.sum())


def _check(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The weights, ones by default, once the shapes fit and there is something to average."""
    rows = len(probabilities)
    weights = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    if probabilities.shape != (rows, 3) or targets.shape != (rows, 3) or weights.shape != (rows,):
        raise DataError(
            f"shapes {probabilities.shape}, {targets.shape}, {weights.shape}", expected="(rows, 3), (rows, 3), (rows,)"
        )
    if np.isnan(targets).any():
        raise DataError(f"{int(np.isnan(targets).any(axis=1).sum())} rows have no label", expected="labelled rows only")
    if not weights.sum() > 0:
        raise DataError("nothing to average: no row has a weight above 0", expected="at least one labelled row")
    return weights
