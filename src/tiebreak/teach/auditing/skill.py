"""Whether the labels know anything of the votes: against the class shares, turned round, calibrated, fold by fold."""

from __future__ import annotations

from itertools import permutations
from typing import Final

import numpy as np

from tiebreak import calibrate, scoring
from tiebreak.calibrate import alarm
from tiebreak.comparisons import LABELS
from tiebreak.errors import DataError
from tiebreak.scoring import Estimate, row_log_loss
from tiebreak.scoring.metrics import FLOOR, confidence
from tiebreak.teach.auditing.findings import Findings
from tiebreak.teach.auditing.measures import Judged

ENOUGH: Final = 50
"""Groups of labelled rows below which an audit says that it rests on few."""

PERMUTATION_ERRORS: Final = 4.0
"""Another order of the three columns is believed when it lowers log-loss by so many standard errors."""

APART: Final = 4.0
"""A fold teacher that is not clearly better than the class shares is refused when it is so many standard errors worse
than the others; nearer than that, its fold may just be small."""

MISCALIBRATED: Final = 0.1
"""Expected calibration error from which a warning is made."""

TOO_GOOD: Final = 0.5
"""Log-loss below which labels of unknown origin look like memories: people agree with each other far less."""

_ORDERS: Final = [order for order in permutations(range(3)) if order != (0, 1, 2)]


def check(judged: Judged, findings: Findings, *, seed: int, unknown_origin: bool) -> None:
    """Hold the labels against the class shares of the same votes.

    The rule: the 95 % interval (whole groups resampled) of the mean difference in log-loss must lie below 0.
    """
    losses = row_log_loss(judged.p, judged.targets)
    prior = np.broadcast_to(judged.prior, judged.p.shape)
    against = judged.mean(losses - row_log_loss(prior, judged.targets))
    groups = judged.bootstrap.groups
    findings.note(
        judged_rows=len(losses), judged_groups=groups, log_loss=judged.mean(losses),
        prior_log_loss=judged.mean(row_log_loss(prior, judged.targets)), against_prior=against,
        accuracy=judged.mean(scoring.row_hits(judged.p, judged.targets)),
        ece=scoring.ece(judged.p, judged.targets, judged.weights),
        confidence=float(np.average(confidence(judged.p), weights=judged.weights)),
    )  # fmt: skip
    if groups < ENOUGH:
        findings.warnings.append(f"{groups} groups of labelled rows are few: {ENOUGH} or more tell with some certainty")
    calibrated = _calibrated(judged, findings, seed)
    if not against.high < 0:
        said = f"log-loss is not clearly better than the class shares' (difference {_signed(against)}"
        said += f" on {len(losses):,} votes)" if groups >= ENOUGH else f", on {groups} groups: too few to tell)"
        if calibrated is not None:
            said += f"; calibrated it would be ({_signed(calibrated)}): teach combine --calibrate symmetric --force"
        findings.faults.append(said)
    elif findings.figures["ece"] > MISCALIBRATED:  # type: ignore[operator]
        findings.warnings.append(
            f"calibration error {findings.figures['ece']:.3f}: teach combine --calibrate symmetric mends it"
        )
    _columns(judged, losses, findings)
    if unknown_origin and scoring.log_loss(judged.p, judged.targets, judged.weights) < TOO_GOOD:
        findings.warnings.append(
            f"log-loss {scoring.log_loss(judged.p, judged.targets, judged.weights):.3f} is better than people agree "
            "with each other: was the teacher trained on these votes?"
        )


def _calibrated(judged: Judged, findings: Findings, seed: int) -> Estimate | None:
    """What cross-validated symmetric calibration makes of the labels, against the prior; its alarms are faults."""
    if np.ptp(judged.p, axis=0).max() < alarm.CONSTANT:
        return None
    try:
        study = calibrate.study(
            judged.p, judged.targets, judged.groups, methods=["symmetric"], weights=judged.weights, seed=seed,
            equivariant=True,
        )  # fmt: skip
    except DataError:
        return None
    if "symmetric" not in study.results:
        return None
    result = study.results["symmetric"]
    findings.note(calibrated_log_loss=result.log_loss, calibrated_against_prior=result.against_prior)
    skill = "cross-validated log-loss is not better"
    found = [fault for fault in result.faults if fault not in findings.faults and not fault.startswith(skill)]
    findings.faults += found
    return result.against_prior if not result.faults else None


def _columns(judged: Judged, losses: np.ndarray, findings: Findings) -> None:
    """Whether another order of the three columns fits the votes far better."""
    best, errors = None, -PERMUTATION_ERRORS
    for order in _ORDERS:
        found = judged.errors(row_log_loss(judged.p[:, order], judged.targets) - losses)
        if found < errors:
            best, errors = order, found
    if best is None:
        return
    if best == (1, 0, 2):
        findings.faults.append(
            f"the labels fit the votes better with A and B changed round (by {-errors:.1f} standard errors)"
        )
    else:
        named = ", ".join(LABELS[best.index(k)] for k in range(3))
        findings.faults.append(
            f"the labels fit the votes better if their columns are {named} instead of a, b, tie (by {-errors:.1f} "
            "standard errors)"
        )


def ties(judged: Judged, made_of: str | None, findings: Findings) -> None:
    """Whether the probability of a tie knows anything about ties; `made_of` says what it was made from, if anything."""
    voted = judged.targets[:, 2]
    share = float(judged.prior[2])
    if not 0 < share < 1:
        return
    said = np.clip(judged.p[:, 2], FLOOR, 1 - FLOOR)
    mine = -(voted * np.log(said) + (1 - voted) * np.log1p(-said))
    base = -(voted * np.log(share) + (1 - voted) * np.log(1 - share))
    against = judged.mean(mine - base)
    findings.note(tie_against_share=against, tie_mean=float(np.average(judged.p[:, 2], weights=judged.weights)))
    if made_of is None:
        return
    if against.low > 0:
        findings.faults.append(
            f"p_tie was made up, not predicted: {made_of}, and it is worse than saying {share:.2f} to everybody "
            f"(by {against.value:.3f} nats)"
        )
    else:
        findings.warnings.append(f"p_tie was derived, not predicted: {made_of}")


def folds(judged: Judged, fold: np.ndarray, findings: Findings, seed: int) -> None:
    """Whether every fold teacher knows something, or one lives on the others' merits."""
    prior = np.broadcast_to(judged.prior, judged.p.shape)
    gained = row_log_loss(judged.p, judged.targets) - row_log_loss(prior, judged.targets)
    against: dict[int, Estimate] = {}
    for number in np.unique(fold[~np.isnan(fold)]):
        inside, others = fold == number, fold != number
        mine, theirs = (judged.take(rows, seed).mean(gained[rows]) for rows in (inside, others))
        against[int(number)] = mine
        if mine.low > 0 or (not mine.high < 0 and _errors_apart(mine, theirs) > APART):
            findings.faults.append(
                f"the teacher of fold {int(number)} is no better than the class shares ({_signed(mine)}), unlike those "
                f"of the other folds ({_signed(theirs)})"
            )
        elif not mine.high < 0:
            findings.warnings.append(
                f"the teacher of fold {int(number)} is not clearly better than the class shares ({_signed(mine)})"
            )
    findings.note(folds_against_prior={str(k): [e.value, e.low, e.high] for k, e in against.items()})


def _errors_apart(one: Estimate, other: Estimate) -> float:
    """By how many standard errors one mean is above the other; an interval is 3.92 of its own."""
    spread = float(np.hypot(one.high - one.low, other.high - other.low)) / 3.92
    return (one.value - other.value) / spread if spread > 0 else 0.0


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"
