"""How much each judge counts in an average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tiebreak.combine.alike import Member
from tiebreak.errors import DataError, UsageError
from tiebreak.train.finetune import doctor

EQUAL: Final = "equal"
OOF: Final = "oof"


def shares(how: str, members: Sequence[Member]) -> tuple[np.ndarray, list[str]]:
    """The weight of each judge, with sum 1, and who was left out and why.

    Args:
        how: equal; oof: by what each gains over the prior on its own held-out fold (`doctor.fold_weights`), a fold that
            is no better than the prior not at all; or a number a judge, such as "2,1,1".
        members: The judges.

    Raises:
        UsageError: It is none of these, or the numbers do not fit.
        DataError: A bundle holds no held-out figures.
        GateError: No judge is better than the prior.
    """
    if how == EQUAL:
        return np.full(len(members), 1 / len(members)), []
    if how == OOF:
        return _by_held_out(members)
    return _given(how, members)


def _by_held_out(members: Sequence[Member]) -> tuple[np.ndarray, list[str]]:
    figures = []
    for one in members:
        found = one.judge.manifest.metrics.get("validation")
        if not isinstance(found, dict) or "log_loss" not in found or "prior_log_loss" not in found:
            raise DataError(
                f"{one.path}: its bundle holds no figures of votes held out from it",
                expected="judges of tiebreak train with folds or validation rows",
                mend="--weights equal, or a number a judge",
            )
        figures.append((float(found["log_loss"]), float(found["prior_log_loss"])))  # type: ignore[arg-type]
    weights = doctor.fold_weights([loss for loss, _ in figures], [prior for _, prior in figures])
    reasons = [doctor.worthless(*pair) for pair in figures]
    return weights, [
        f"{one.name} is left out: {reason}" for one, reason in zip(members, reasons, strict=True) if reason is not None
    ]


def _given(text: str, members: Sequence[Member]) -> tuple[np.ndarray, list[str]]:
    try:
        weights = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise UsageError(f"--weights {text!r}", expected=f"{EQUAL}, {OOF}, or a number a judge such as 2,1,1") from None
    if len(weights) != len(members):
        raise UsageError(f"--weights {text}: {len(weights)} numbers for {len(members)} judges", expected="one a judge")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise UsageError(f"--weights {text}", expected="numbers from 0 up, not all 0")
    left = [f"{one.name} is left out: its weight is 0" for one, w in zip(members, weights, strict=True) if w == 0]
    return weights / weights.sum(), left
