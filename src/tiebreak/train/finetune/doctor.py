"""What went wrong in a training that ended without an error: said in the report, the outcome and the bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import polars as pl
from pydantic import JsonValue

from tiebreak import comparisons, predictions, scoring
from tiebreak.train.finetune.progress import Figures, Validated

RISE: Final = 0.01
"""A validation log-loss that ends this much above its best, in nats, is called rising."""

SPREAD: Final = 0.01
"""Predictions that vary less than this (standard deviation of a probability) are called constant."""

TIES: Final = 0.05
"""Share of ties among the votes from which a judge should predict some."""


def diagnose(
    validated: Sequence[Validated], kept: Figures | None, losses: Sequence[float], fold: int | None = None
) -> list[str]:
    """The findings about one training, in plain words; an empty list is a clean bill.

    Args:
        validated: The validations, in order.
        kept: Figures of the step that the bundle holds.
        losses: Training loss of each step.
        fold: The fold, where there are several.
    """
    findings = []
    if kept is not None:
        findings += _of_the_kept(kept) + _of_the_curve(validated)
    findings += _of_the_losses(losses)
    where = "" if fold is None else f"fold {fold}: "
    return [where + finding for finding in findings]


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


def _of_the_kept(kept: Figures) -> list[str]:
    found = []
    if kept.log_loss >= kept.prior_log_loss:
        found.append(
            f"no better than the prior: validation log-loss {kept.log_loss:.4f}, always predicting the class shares "
            f"gives {kept.prior_log_loss:.4f}; try more data, more steps, or another learning rate"
        )
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
    curve = [(event.figures.log_loss, event.step) for event in validated]
    best, step = min(curve)
    last, end = curve[-1]
    if step == end or last - best < RISE:
        return []
    return [
        f"the validation log-loss rises: {best:.4f} at step {step}, {last:.4f} at step {end}; the bundle holds step "
        f"{step}; fewer epochs or a lower learning rate would do"
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
