"""How much each row counts, beyond its own weight: factors with mean 1 over the mass of a step. Off by default.

Let w_i be the weight of row i, y_i its vote, t_i the mean of its teachers' probabilities. The factor f_i is

- learning_progress: clip(1 + strength (g_i - mean of g), low, high), where g_i = sum over classes of
  y_i (log p_model - log p_slow), in nats, is how much likelier the vote has become to the model than to its slow copy;
  a mean over the row's views (its twin, each template), and the mean of g is that of the step by w. This is the reading
  of RLP (Hatamizadeh et al. 2025, arXiv 2510.01265) that suits a classifier: there the information gain of a thought
  over a slow copy without one is the reward, and its advantage is relative to the mean of its group. Nothing is divided
  by a standard deviation: where nothing is learned, g is noise, and noise should not weigh.
- teacher_agreement: clip((q_i / mean of q)^strength, low, high), where q_i = sum over classes of y_i t_i is the
  probability that the teachers give the vote, and the mean is that of all training rows by w.
- margin: max(1 - strength, 0) where |t_a - t_b| <= margin, else 1 (second place of WSDM Cup 2025, which had no ties).

Then w_i f_i takes the place of w_i, scaled so that the mass of the step stays what it was. Factors of the last two
kinds do not change while training: they are in the weights of the rows from the start.

None of them weights rows up for having a high loss, on purpose: with labels on which people themselves often disagree,
those are the mislabelled rows (see docs/weighting.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from tiebreak import comparisons
from tiebreak.errors import DataError, UsageError
from tiebreak.train.finetune.collating import Examples
from tiebreak.train.finetune.recipe import Weighting

TAUGHT: Final = ("teacher_agreement", "margin")
"""Kinds that ask the teachers."""


def progress_factors(progress: np.ndarray, weights: np.ndarray, settings: Weighting) -> np.ndarray:
    """The factors of the rows of one step, from their learning progress.

    Args:
        progress: g of each row, in nats, shape (rows,).
        weights: Weight of each row, shape (rows,).
        settings: The recipe's weighting.

    Returns:
        Shape (rows,), float64; weighted by `weights` their mean is 1.
    """
    mass = weights.sum()
    if not mass > 0:
        return np.ones(len(progress))
    mean = (weights * progress).sum() / mass
    raw = np.clip(1 + settings.strength * (progress - mean), settings.low, settings.high)
    scale = (weights * raw).sum() / mass
    # With low = 0 every factor can be cut to 0 but those of rows without weight.
    found: np.ndarray = raw / scale if scale > 0 else np.ones(len(raw))
    return found


def static_factors(targets: np.ndarray, teachers: np.ndarray, weights: np.ndarray, settings: Weighting) -> np.ndarray:
    """The factors of all training rows that follow from their teachers, before they are scaled to a step's mass.

    Swapping the answers of a row changes no bit of its factor.

    Args:
        targets: Votes of shape (rows, 3).
        teachers: Probabilities of shape (rows, teachers, 3), one teacher or more.
        weights: Weight of each row, shape (rows,).
        settings: The recipe's weighting, of a kind in `TAUGHT`.

    Returns:
        Shape (rows,), float64.
    """
    mean = teachers.astype(np.float64).mean(axis=1)
    if settings.kind == "margin":
        torn = np.abs(mean[:, 0] - mean[:, 1]) <= settings.margin
        return np.where(torn, max(1 - settings.strength, 0.0), 1.0)
    a, b, tie = (targets * mean).T
    agreement = a + b + tie
    expected = (weights * agreement).sum() / weights.sum()
    found: np.ndarray = np.clip((agreement / expected) ** settings.strength, settings.low, settings.high)
    return found


def weighted(examples: Examples, settings: Weighting) -> tuple[Examples, list[str]]:
    """The rows with the factors of their teachers in their weights, and what that did, in plain words.

    Nothing changes for the kinds that do not ask teachers.

    Raises:
        UsageError: There are no teachers.
        DataError: No row is left with a weight.
    """
    if settings.kind not in TAUGHT:
        return examples, []
    if examples.teachers is None or not examples.teachers.shape[2]:
        raise untaught(settings)
    # View 0 is the row as it was given; the teachers of the others say the same, mirrored or not.
    targets = examples.targets[:, 0].astype(np.float64)
    factors = static_factors(targets, examples.teachers[:, 0], examples.weights, settings)
    weights = examples.weights * factors
    if not weights.sum() > 0:
        raise DataError(
            f"weighting.kind {settings.kind} leaves none of {len(weights):,} rows a weight",
            expected="teachers that prefer an answer in some rows",
            mend="a smaller weighting.margin, or weighting.kind=null",
        )
    return replace(examples, weights=weights), [_told(settings, factors, targets, examples.weights)]


def untaught(settings: Weighting) -> UsageError:
    """What is wrong with a weighting that asks teachers where there are none."""
    return UsageError(
        f"weighting.kind {settings.kind} without teachers",
        expected="soft labels of one teacher or more",
        mend="--teacher labels.parquet (tiebreak teach label), or weighting.kind=null",
    )


def _told(settings: Weighting, factors: np.ndarray, targets: np.ndarray, before: np.ndarray) -> str:
    """What a static weighting did: above all whom it takes weight from, since that moves the class shares."""
    mass = targets * before[:, None]
    old, new = (share.sum(axis=0) / share.sum() for share in (mass, mass * factors[:, None]))
    shares = ", ".join(
        f"{name} {was:.1%} to {now:.1%}" for name, was, now in zip(comparisons.LABELS, old, new, strict=True)
    )
    out = int((factors == 0).sum())
    begin = f"weighting {settings.kind}: {out:,} of {len(factors):,} rows count nothing" if out else (
        f"weighting {settings.kind}: factors from {factors.min():.2f} to {factors.max():.2f}"
    )  # fmt: skip
    return f"{begin}; shares of the classes: {shares}"
