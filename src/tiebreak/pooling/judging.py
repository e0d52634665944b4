"""What a pool is worth: fitted weights, the best single opinion and equal weights, judged out of fold over groups."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak import dealing
from tiebreak.errors import DataError, UsageError
from tiebreak.pooling.pools import SPACES, Space, pool
from tiebreak.pooling.simplex import best_weights
from tiebreak.scoring import Bootstrap, Estimate, log_loss, row_log_loss

FOLDS: Final = 5

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, Space], np.ndarray]


def _equal(opinions: np.ndarray, targets: np.ndarray, weights: np.ndarray, space: Space) -> np.ndarray:
    return np.full(len(opinions), 1 / len(opinions))


def _single(opinions: np.ndarray, targets: np.ndarray, weights: np.ndarray, space: Space) -> np.ndarray:
    chosen = np.zeros(len(opinions))
    chosen[int(np.argmin([log_loss(p, targets, weights) for p in opinions]))] = 1.0
    return chosen


def _fitted(opinions: np.ndarray, targets: np.ndarray, weights: np.ndarray, space: Space) -> np.ndarray:
    return best_weights(opinions, targets, weights, space=space)


RULES: Final[dict[str, Rule]] = {"equal": _equal, "single": _single, "fitted": _fitted}
"""Ways to choose weights, from the one that asks least of the votes: no question, which opinion, how much of each."""


@dataclass(frozen=True)
class Fit:
    """Weights on the simplex, and what they and their rivals are worth.

    Attributes:
        weights: Fitted on all rows, shape (k,).
        space: Of which pool.
        single: The opinion of least log-loss on all rows.
        log_loss: Out-of-fold log-loss by rule (`RULES`), with its 95 % interval by group bootstrap. What a rule has to
            learn (which opinion, which weights) it learned from the other folds.
        change: The same minus that of equal weights, paired: below 0 the rule helps.
        against_single: The same minus that of the best single opinion, paired.
        best: The rule that asks least of the votes among those that the lowest log-loss does not beat beyond its
            interval.
        by_fold: The fitted weights of each fold's training rows, shape (folds, k): how far to trust them.
        rows: Rows with a label and a weight.
        groups: Groups of rows.
    """

    weights: np.ndarray
    space: Space
    single: int
    log_loss: dict[str, Estimate]
    change: dict[str, Estimate]
    against_single: dict[str, Estimate]
    best: str
    by_fold: np.ndarray
    rows: int
    groups: int


def fit(
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    *,
    space: Space = "probabilities",
    folds: int = FOLDS,
    seed: int = 0,
) -> Fit:
    """Fit weights and judge them by nested, grouped cross-validation.

    Args:
        probabilities: Opinions, shape (k, rows, 3), made for rows that nobody behind them was trained on.
        targets: Hard or soft labels, shape (rows, 3); rows with NaN are left out.
        weights: Row weights; rows of weight 0 are left out.
        groups: Rows of one group stay together; by default every row is its own group.
        space: Mean of probabilities or of logits.
        folds: Of the cross-validation.
        seed: Of folds and resamples.

    Raises:
        DataError: The arrays do not fit together, or there are fewer groups than folds.
        UsageError: The space is unknown.
    """
    if space not in SPACES:
        raise UsageError(f"no pool in the space of {space!r}", expected=f"one of {', '.join(SPACES)}")
    p, t, w, g = _checked(probabilities, targets, weights, groups)
    fold = fold_of(g, t, folds, seed)
    held_out = {name: np.empty_like(t) for name in RULES}
    by_fold = np.empty((folds, len(p)))
    for number in range(folds):
        inside, outside = fold != number, fold == number
        for name, rule in RULES.items():
            chosen = rule(p[:, inside], t[inside], w[inside], space)
            held_out[name][outside] = pool(p[:, outside], chosen, space=space)
            if name == "fitted":
                by_fold[number] = chosen
    bootstrap = Bootstrap(g, seed=seed)
    draws = {name: bootstrap.sum(row_log_loss(q, t) * w) / bootstrap.sum(w) for name, q in held_out.items()}
    return Fit(
        weights=_fitted(p, t, w, space),
        space=space,
        single=int(_single(p, t, w, space).argmax()),
        log_loss={name: Estimate.of(draw) for name, draw in draws.items()},
        change={name: Estimate.of(draw - draws["equal"]) for name, draw in draws.items()},
        against_single={name: Estimate.of(draw - draws["single"]) for name, draw in draws.items()},
        best=_best(draws),
        by_fold=by_fold,
        rows=len(t),
        groups=bootstrap.groups,
    )


def fold_of(groups: np.ndarray, targets: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each labelled row: whole groups, ties spread evenly, A and B not told apart.

    Raises:
        DataError: There are fewer groups than folds.
    """

    def draw(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()

    mass = np.column_stack([targets[:, 0] + targets[:, 1], targets[:, 2]])
    return dealing.deal(groups, mass, [1 / folds] * folds, draw=draw)


def _best(draws: dict[str, np.ndarray]) -> str:
    lowest = min(draws, key=lambda name: float(draws[name][0]))
    for name in draws:
        if not Estimate.of(draws[name] - draws[lowest]).low > 0:
            return name
    return lowest


def _checked(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows = len(targets)
    weights = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    groups = np.arange(rows) if groups is None else np.asarray(groups)
    shapes = (probabilities.shape[1:], targets.shape, weights.shape, groups.shape)
    if shapes != ((rows, 3), (rows, 3), (rows,), (rows,)) or not len(probabilities):
        raise DataError(
            f"opinions {probabilities.shape}, labels {targets.shape}, weights {weights.shape} and groups "
            f"{groups.shape} do not belong together",
            expected="(opinions, rows, 3), (rows, 3), (rows,), (rows,)",
        )
    if not np.isfinite(probabilities).all() or (weights < 0).any():
        raise DataError("opinions or weights hold a number that is none", expected="finite numbers >= 0")
    used = ~np.isnan(targets).any(axis=1) & (weights > 0)
    if not used.any():
        raise DataError("no row has a label and a weight above 0", expected="votes with labels")
    return probabilities[:, used].astype(np.float64), targets[used].astype(np.float64), weights[used], groups[used]
