"""The likelihoods of the tie models, and the parameters of most likelihood with their intervals.

Both are concave in (scale, length, h), where h = log tie, so that Newton's method finds the one optimum: Davidson's is
a softmax of linear logits, and for Rao and Kupper log(e^2h - 1) and the logistic function are log-concave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.calibrate.rows import Rows
from tiebreak.errors import CollapseError, TiebreakError
from tiebreak.judges.reward import Family, Layer
from tiebreak.predictions import softmax
from tiebreak.scoring import Estimate

TOLERANCE: Final = 1e-10
"""Fitting ends when no component of the gradient of the mean log-loss, in units of its column, is larger."""

_ITERATIONS: Final = 200
_FLAT: Final = 1e-7
_KNOWN: Final = 1e-12
_NORMAL: Final = 1.959963984540054


@dataclass(frozen=True)
class TieRows(Rows):
    """Labelled rows with what a tie model sees of them.

    Attributes:
        rewards: float64 (rows,): score of A minus that of B.
        lengths: float64 (rows,): log length of A minus that of B.
    """

    rewards: np.ndarray
    lengths: np.ndarray

    def take(self, chosen: np.ndarray) -> TieRows:
        """The rows of a mask or of indices, with groups numbered anew."""
        groups = np.unique(self.groups[chosen], return_inverse=True)[1].reshape(-1)
        return TieRows(
            self.probabilities[chosen], self.targets[chosen], groups, self.weights[chosen], self.rewards[chosen],
            self.lengths[chosen],
        )  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """Log-loss of each row in its margin d and the common h, with derivatives, all float64 (rows,)."""

    loss: np.ndarray
    by_margin: np.ndarray
    by_tie: np.ndarray
    margin_margin: np.ndarray
    margin_tie: np.ndarray
    tie_tie: np.ndarray


def terms(family: Family, margin: np.ndarray, h: float, targets: np.ndarray) -> Terms:
    """Log-loss of the rows with margins d under a tie parameter e^h.

    Args:
        family: davidson or rao-kupper.
        margin: d, (rows,).
        h: log of the tie parameter; above 0 for rao-kupper.
        targets: Hard or soft labels, (rows, 3), each with sum 1.
    """
    return _davidson(margin, h, targets) if family == "davidson" else _rao_kupper(margin, h, targets)


def _davidson(margin: np.ndarray, h: float, targets: np.ndarray) -> Terms:
    logits = np.stack([margin / 2, -margin / 2, np.full_like(margin, h)], axis=1)
    p = softmax(logits)
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    lead = (p[:, 0] - p[:, 1]) / 2
    return Terms(
        loss=total - (targets * logits).sum(axis=1),
        by_margin=lead - (targets[:, 0] - targets[:, 1]) / 2,
        by_tie=p[:, 2] - targets[:, 2],
        margin_margin=(p[:, 0] + p[:, 1]) / 4 - lead**2,
        margin_tie=-p[:, 2] * lead,
        tie_tie=p[:, 2] * (1 - p[:, 2]),
    )


def _rao_kupper(margin: np.ndarray, h: float, targets: np.ndarray) -> Terms:
    not_b, not_a = targets[:, 0] + targets[:, 2], targets[:, 1] + targets[:, 2]
    u, v = _logistic(h - margin), _logistic(h + margin)
    spread = -np.expm1(-2 * h)
    return Terms(
        loss=not_b * np.logaddexp(0, h - margin) + not_a * np.logaddexp(0, h + margin)
        - targets[:, 2] * (2 * h + np.log(spread)),
        by_margin=not_a * v - not_b * u,
        by_tie=not_b * u + not_a * v - targets[:, 2] * 2 / spread,
        margin_margin=not_b * u * (1 - u) + not_a * v * (1 - v),
        margin_tie=not_a * v * (1 - v) - not_b * u * (1 - u),
        tie_tie=not_b * u * (1 - u) + not_a * v * (1 - v) + targets[:, 2] * 4 * np.exp(-2 * h) / spread**2,
    )  # fmt: skip


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


@dataclass(frozen=True)
class Point:
    """Parameters of a tie model, (scale, h) or (scale, length, h), and the mean log-loss there with derivatives.

    Attributes:
        theta: The parameters, each in the units of its column (`_columns`).
        scores: Gradient of each row's share, (rows, parameters).
    """

    theta: np.ndarray
    loss: float
    scores: np.ndarray
    hessian: np.ndarray

    @property
    def gradient(self) -> np.ndarray:
        """Of the mean log-loss."""
        return np.asarray(self.scores.sum(axis=0))


def evaluate(family: Family, columns: np.ndarray, theta: np.ndarray, rows: Rows) -> Point:
    """The mean log-loss of rows at theta; `columns` (rows, 1 or 2) are what the margin is linear in."""
    if family == "rao-kupper" and theta[-1] <= 0:
        nothing = np.zeros((0, len(theta)))
        return Point(theta, np.inf, nothing, np.eye(len(theta)))
    found = terms(family, columns @ theta[:-1], float(theta[-1]), rows.targets)
    shares = rows.shares
    scores = np.concatenate([columns * found.by_margin[:, None], found.by_tie[:, None]], axis=1) * shares[:, None]
    hessian = np.empty((len(theta), len(theta)))
    hessian[:-1, :-1] = (columns * (found.margin_margin * shares)[:, None]).T @ columns
    hessian[:-1, -1] = hessian[-1, :-1] = columns.T @ (found.margin_tie * shares)
    hessian[-1, -1] = found.tie_tie @ shares
    return Point(theta, float(shares @ found.loss), scores, hessian)


def fit(rows: TieRows, family: Family, *, length: bool = False) -> tuple[Layer, dict[str, Estimate]]:
    """The layer of least log-loss, and 95 % intervals of its parameters.

    The intervals are Wald's with the sandwich over whole groups (votes on one prompt resemble each other); that of the
    tie parameter is symmetric in its logarithm.

    Args:
        rows: Labelled rows; some of them ties.
        family: davidson or rao-kupper.
        length: Whether length has a term.

    Raises:
        CollapseError: There is no finite optimum: the scores tell the votes without a single error.
    """
    columns, units = _columns(rows, length=length)
    best = _minimise(family, columns, rows)
    inverse = _inverse(best.hessian)
    by_group = np.zeros((rows.group_count, len(best.theta)))
    np.add.at(by_group, rows.groups, best.scores)
    spread = _NORMAL * np.sqrt(np.diag(inverse @ (by_group.T @ by_group) @ inverse))
    low, value, high = ((best.theta + sign * spread) / units for sign in (-1, 0, 1))
    names = ["scale", "length"][: len(units) - 1]
    intervals = {name: Estimate(*map(float, three)) for name, *three in zip(names, value, low, high, strict=False)}
    intervals["tie"] = Estimate(*(float(np.exp(end[-1])) for end in (value, low, high)))
    figures = {name: estimate.value for name, estimate in intervals.items()}
    return Layer(family=family, fitted=True, **figures), intervals


def _columns(rows: TieRows, *, length: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the margin is linear in, each column with mean square 1, and the units: theta / units are the parameters."""
    columns = np.stack([rows.rewards, rows.lengths][: 1 + length], axis=1)
    units = np.sqrt(rows.shares @ columns**2)
    units[units == 0] = 1.0
    return columns / units, np.append(units, 1.0)


def _start(family: Family, rows: Rows) -> float:
    """The h of judges without an opinion: with d = 0 both models give the share of ties in closed form."""
    ties = float(rows.prior[2])
    return float(np.log(2 * ties / (1 - ties)) if family == "davidson" else np.log((1 + ties) / (1 - ties)))


def _minimise(family: Family, columns: np.ndarray, rows: Rows) -> Point:
    point = evaluate(family, columns, np.append(np.zeros(columns.shape[1]), _start(family, rows)), rows)
    first = point.hessian
    for _ in range(_ITERATIONS):
        if np.abs(point.gradient).max() < TOLERANCE:
            break
        step = -_inverse(point.hessian) @ point.gradient
        expected, size = float(point.gradient @ step), 1.0
        while True:
            trial = evaluate(family, columns, point.theta + size * step, rows)
            # Near the optimum the gain drowns in rounding, so a loss equal up to rounding is accepted too.
            if trial.loss <= point.loss + 1e-4 * size * expected + 1e-14 * (1 + abs(point.loss)) or size < 1e-10:
                break
            size /= 2
        point = trial
    _refuse_separable(family, first, point)
    return point


def _inverse(hessian: np.ndarray) -> np.ndarray:
    """The inverse on the directions that the votes decide; along the others nothing moves."""
    values, vectors = np.linalg.eigh(hessian)
    known = values > _KNOWN * max(values[-1], 1e-300)
    return np.asarray((vectors[:, known] / values[known]) @ vectors[:, known].T)


def _refuse_separable(family: Family, first: np.ndarray, last: Point) -> None:
    """Where the votes follow from the scores without error, the loss falls for ever and flattens out."""
    values, vectors = np.linalg.eigh(first)
    known = values > _KNOWN * max(values[-1], 1e-300)
    white = vectors[:, known] / np.sqrt(values[known])
    if np.linalg.eigvalsh(white.T @ last.hessian @ white)[0] < _FLAT:
        raise CollapseError(
            f"the {family} model has no finite optimum: the scores tell the votes without a single error",
            expected="votes that the reward model was not trained on, and enough of them",
            mend="more votes",
        )
    if not np.abs(last.gradient).max() < 1e-7:
        raise TiebreakError(f"the {family} model did not converge: gradient {np.abs(last.gradient).max():.1e}")
