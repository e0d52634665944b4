"""What went wrong in a training that ended without an error: said in the report, the outcome and the bundle.

Also what a fold is worth beside the others (`fold_weights`). A fold that is no better than the prior, or than three
equal probabilities, is worth nothing: it is not kept "because it may still help". That was once argued from the
monotone improvement theorem of RLP (arXiv 2510.01265), which speaks of updates of one policy and not of an average of
models, one of which has learned nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from pydantic import JsonValue

from tiebreak import comparisons, predictions, scoring
from tiebreak.errors import DataError, GateError
from tiebreak.train.finetune.progress import Figures, Validated

RISE: Final = 0.01
"""A validation log-loss that ends this much above its best, in nats, is called rising."""

SPREAD: Final = 0.01
"""Predictions that vary less than this (standard deviation of a probability) are called constant."""

HOLDS: Final = 0.05
"""Accuracy that ends at most this much below that of the best step is called holding."""

UNIFORM: Final = math.log(3)
"""Log-loss of three equal probabilities, in nats."""

ACTS: Final = 0.01
"""A weighting whose factors vary less than this (standard deviation, mean over the steps) has hardly acted."""

TIES: Final = 0.05
"""Share of ties among the votes from which a judge should predict some."""


def diagnose(
    validated: Sequence[Validated], kept: Figures | None, losses: Sequence[float], fold: int | None = None,
    factors: Sequence[float] = (),
) -> list[str]:  # fmt: skip
    """The findings about one training, in plain words; an empty list is a clean bill.

    Args:
        validated: The validations, in order.
        kept: Figures of the step that the bundle holds.
        losses: Training loss of each step.
        fold: The fold, where there are several.
        factors: Standard deviation of the rows' factors in each step, where they are weighted by learning progress.
    """
    findings = []
    if kept is not None:
        findings += _of_the_kept(kept, fold is not None) + _of_the_curve(validated)
    findings += _of_the_losses(losses) + _of_the_factors(factors)
    where = "" if fold is None else f"fold {fold}: "
    return [where + finding for finding in findings]


def fold_weights(log_losses: Sequence[float], prior_log_losses: Sequence[float]) -> np.ndarray:
    """How much each fold's model counts in an average: in proportion to what it gains over knowing nothing.

    The gain of a fold is min(its prior, log 3) - its held-out log-loss, in nats; its weight is its gain over the sum of
    all gains. A fold without a gain (a log-loss that is no number included) has weight 0.

    Args:
        log_losses: Held-out log-loss of each fold.
        prior_log_losses: What the class shares of the fold's training rows score on the same rows.

    Returns:
        Weights of shape (folds,), with sum 1.

    Raises:
        DataError: Not one prior for each fold.
        GateError: No fold gains anything.
    """
    found, priors = np.asarray(log_losses, np.float64), np.asarray(prior_log_losses, np.float64)
    if found.shape != priors.shape or found.ndim != 1 or not len(found):
        raise DataError(f"{found.size} log-losses and {priors.size} of the prior", expected="one of each for each fold")
    gains = np.nan_to_num(np.minimum(priors, UNIFORM) - found, nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    if not gains.any():
        told = "; ".join(f"fold {k}: {worthless(*pair)}" for k, pair in enumerate(zip(found, priors, strict=True)))
        raise GateError(
            f"no fold is better than knowing nothing ({told})",
            expected="at least one fold that learned something: an average of models that learned nothing is nothing",
            mend="more data, more steps, or another learning rate",
        )
    weights: np.ndarray = gains / gains.sum()
    return weights


def worthless(log_loss: float, prior_log_loss: float) -> str | None:
    """Why a model is worth nothing, in plain words; None where it is better than its prior and than equal shares."""
    if not math.isfinite(log_loss):
        return "its log-loss is no finite number"
    if log_loss < min(prior_log_loss, UNIFORM):
        return None
    faults = {
        "no better than the prior": log_loss >= prior_log_loss,
        "worse than uniform": log_loss > UNIFORM,
        "no better than uniform": log_loss == UNIFORM,
    }
    return (
        f"{' and '.join(fault for fault, holds in faults.items() if holds)}: log-loss {log_loss:.4f}, always "
        f"predicting the class shares gives {prior_log_loss:.4f}, three equal probabilities give {UNIFORM:.4f}"
    )


def summary(scored: pl.DataFrame, held_out: pl.DataFrame) -> dict[str, JsonValue]:
    """Figures of predictions for the comparisons they belong to, row by row."""
    p, targets = predictions.probabilities(scored), comparisons.targets(held_out)
    return {
        "rows": len(targets),
        "log_loss": scoring.log_loss(p, targets),
        "accuracy": scoring.accuracy(p, targets),
        "macro_f1": scoring.macro_f1(p, targets),
        "confusion": scoring.confusion(p, targets).tolist(),
    }


def _of_the_kept(kept: Figures, of_folds: bool) -> list[str]:
    found = []
    if (fault := worthless(kept.log_loss, kept.prior_log_loss)) is not None:
        advice = "try more data, more steps, or another learning rate"
        if of_folds:
            advice = (
                "leave this fold out: nothing says that it may still help an average or a blend (tiebreak combine "
                f"adapters --weights oof gives it weight 0); or {advice}"
            )
        found.append(f"{fault}; {advice}")
    if kept.spread < SPREAD:
        found.append(
            f"the head outputs the prior: predictions hardly vary (standard deviation {kept.spread:.4f}); try a higher "
            "optimiser.head_lr, or more steps"
        )
    ties = sum(kept.confusion[2]) / max(sum(map(sum, kept.confusion)), 1e-9)
    if ties >= TIES and kept.tie_share == 0:
        found.append(
            f"a tie is never the verdict, though {ties:.0%} of the votes are; its probability may still be right: "
            "tiebreak evaluate shows the reliability of P(tie)"
        )
    return found


def _of_the_curve(validated: Sequence[Validated]) -> list[str]:
    best = min(validated, key=lambda event: (event.figures.log_loss, event.step))
    last = validated[-1]
    low, high = best.figures.log_loss, last.figures.log_loss
    if last.step == best.step or high - low < RISE:
        return []
    beyond = f", worse than uniform ({UNIFORM:.4f})" if high > UNIFORM else ""
    told = (
        f"the validation log-loss rises: {low:.4f} at step {best.step}, {high:.4f} at step {last.step}{beyond}; the "
        f"bundle holds step {best.step}"
    )
    before, after = best.figures.accuracy, last.figures.accuracy
    if before - after > HOLDS:
        return [f"{told}; fewer epochs or a lower learning rate would do"]
    return [
        f"{told}. The accuracy holds meanwhile ({before:.3f}, then {after:.3f}): the verdicts are no worse, the "
        "probabilities are over-confident; fewer epochs, a lower learning rate or loss.smoothing would do, and "
        "tiebreak calibrate mends what is left of it"
    ]


def _of_the_losses(losses: Sequence[float]) -> list[str]:
    if not losses:
        return []
    tail = losses[-max(1, len(losses) // 10) :]
    mean = sum(tail) / len(tail)
    if not math.isfinite(mean) or mean > 2 * math.log(3):
        return [
            f"the training loss diverged: {mean:.3f} over the last {len(tail)} steps, a constant gives 1.099; "
            "try a lower optimiser.lr, or optimiser.clip"
        ]
    return []


def _of_the_factors(factors: Sequence[float]) -> list[str]:
    if not factors or sum(factors) / len(factors) >= ACTS:
        return []
    return [
        f"the weighting hardly acted: the factors of the rows vary by {sum(factors) / len(factors):.4f} (standard "
        "deviation) where 1 is no change; weighting.strength higher, or weighting.decay nearer to 1, or leave it out"
    ]
