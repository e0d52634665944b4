"""An evaluation in plain words."""

from __future__ import annotations

from typing import Final

import numpy as np

from tiebreak.evaluation.ledger import Ledger
from tiebreak.evaluation.result import Evaluation
from tiebreak.scoring.bootstrap import Estimate

FEW_GROUPS: Final = 30
SHOWN: Final = 4


def sentences(evaluation: Evaluation) -> list[str]:
    """What a reader should take away, most important first."""
    found = [_quality(evaluation), _verdicts(evaluation), _calibration(evaluation)]
    if evaluation.comparison:
        found.insert(1, evaluation.comparison.sentence)
    found += [text for text in (_ties(evaluation), _length(evaluation), _position(evaluation)) if text]
    if evaluation.ledger and evaluation.ledger.truncated:
        found.append(_truncation(evaluation.ledger))
    weak = weakest(evaluation)
    if weak:
        more = f" and {len(weak) - SHOWN} more slices" if len(weak) > SHOWN else ""
        found.append(
            "Not shown to be better than a constant that knows the slice's own class shares on: "
            f"{'; '.join(weak[:SHOWN])}{more}."
        )
    return found


def warnings(evaluation: Evaluation) -> list[str]:
    """What limits these figures: remarks, rows left out, few groups, cut texts."""
    counts = evaluation.counts
    found = list(evaluation.remarks)
    if counts.unlabelled:
        found.append(f"{counts.unlabelled:,} of {counts.votes:,} votes have no label and are left out.")
    if counts.weightless:
        found.append(f"{counts.weightless:,} votes have weight 0 and are left out.")
    if counts.soft:
        found.append(
            f"{counts.soft:,} labels are soft: log-loss is cross-entropy, accuracy is the label's mass on the verdict."
        )
    if counts.groups < FEW_GROUPS:
        found.append(f"There are only {counts.groups} groups of votes: the intervals are rough and rather too narrow.")
    if counts.truncated:
        found.append(f"The judge had to cut text in {counts.truncated:,} of the scored votes.")
    if counts.impossible:
        found.append(f"{counts.impossible:,} votes fell on a class with probability 0; each costs 36 of log-loss.")
    return found


def weakest(evaluation: Evaluation) -> list[str]:
    """Slices, not small, whose log-loss may be no better than that of their own class shares."""
    return [
        f"{part.dimension}: {part.name} ({part.rows:,} votes)"
        for part in evaluation.slices
        if not part.small and part.log_loss.high >= part.prior_log_loss
    ]


def _quality(evaluation: Evaluation) -> str:
    loss, prior = evaluation.metrics["log_loss"], evaluation.baselines["prior"]
    gain = prior.difference
    start = f"Log-loss is {loss} on {evaluation.counts.scored:,} votes; always saying the class shares costs "
    start += f"{prior.metrics['log_loss'].value:.4f}"
    if gain is None or np.isnan(gain.low):
        return f"{start}."
    if gain.high < 0:
        return f"{start}: the judge is better by {-gain.value:.4f} [{-gain.high:.4f}, {-gain.low:.4f}]."
    if gain.low > 0:
        return f"{start}: the judge is worse than that constant, by {gain}."
    return f"{start}: no difference from that constant can be shown."


def _verdicts(evaluation: Evaluation) -> str:
    accuracy, decisive = evaluation.metrics["accuracy"], evaluation.metrics["decisive_accuracy"]
    text = f"The verdict is the vote in {_percent(accuracy)} of the cases"
    if not np.isnan(decisive.value):
        text += f"; where people chose a side, the judge favours the same side in {_percent(decisive)}"
    longer = evaluation.baselines.get("longer_wins")
    if longer and not np.isnan(longer.metrics["decisive_accuracy"].value):
        text += f" (the longer answer: {100 * longer.metrics['decisive_accuracy'].value:.1f} %)"
    return f"{text}."


def _calibration(evaluation: Evaluation) -> str:
    ece, chance = evaluation.metrics["ece"], evaluation.calibrated_ece
    measured = f"Calibration: confidence is off by {100 * ece.value:.1f} points on average (ECE); "
    if ece.value <= chance.high:
        return measured + f"a perfectly calibrated judge would show up to {100 * chance.high:.1f} by chance here."
    gap = evaluation.metrics["confidence_gap"]
    lean = "over-confident" if gap.value > 0 else "under-confident"
    mend = "tiebreak calibrate may mend it."
    return measured + f"chance explains up to {100 * chance.high:.1f}. The verdicts are {lean} on the whole: {mend}"


def _ties(evaluation: Evaluation) -> str:
    figures = evaluation.audits["tie"].figures
    actual, predicted = figures["tie_share_actual"].value, figures["tie_share_predicted"].value
    if actual == 0:
        apart = evaluation.metrics["decisive_log_loss"]
        return (
            f"No vote is a tie; the judge gives ties {100 * predicted:.1f} % of the probability. Between A and B alone "
            f"its log-loss is {apart}; a coin has 0.6931."
        )
    recall = figures["tie_recall"]
    return (
        f"{100 * actual:.1f} % of the votes are ties and the judge gives them {100 * predicted:.1f} % of the "
        f"probability; its verdict finds {_percent(recall)} of them."
    )


def _length(evaluation: Evaluation) -> str:
    gap = evaluation.audits["length"].figures.get("longer_share_gap")
    if gap is None or np.isnan(gap.value):
        return ""
    actual = evaluation.audits["length"].figures["longer_share_actual"].value
    predicted = evaluation.audits["length"].figures["longer_share_predicted"].value
    text = f"People prefer the longer answer in {100 * actual:.1f} % of their choices, the judge expects "
    text += f"{100 * predicted:.1f} %"
    if np.isnan(gap.low) or gap.low <= 0 <= gap.high:
        return f"{text}: no length bias beyond people's own can be shown."
    return f"{text}: it leans to the {'longer' if gap.value > 0 else 'shorter'} answer more than people do."


def _position(evaluation: Evaluation) -> str:
    audit = evaluation.audits["position"]
    flips, gap = audit.figures.get("verdict_flips"), audit.figures.get("swap_gap")
    if flips is not None and gap is not None and flips.value == gap.value == 0:
        return "Changing the places of the answers changes nothing."
    if flips is not None:
        return f"{_percent(flips)} of the verdicts change when the answers change places."
    if gap is not None:
        return f"Changing the places of the answers moves a probability by {gap.value:.4f} on average."
    return "Whether the verdicts depend on the places of the answers was not measured."


def _truncation(ledger: Ledger) -> str:
    gap = ledger.log_loss_gap
    text = f"The judge had to cut text in {_percent(ledger.truncated_share)} of the votes and read "
    text += f"{100 * ledger.kept_share.value:.1f} % of all tokens"
    if np.isnan(gap.low):
        return f"{text}."
    if gap.low <= 0 <= gap.high:
        return f"{text}; that it judges these votes worse or better than the others cannot be shown ({gap})."
    return (
        f"{text}; its log-loss on these votes is {'higher' if gap.value > 0 else 'lower'} than on the others, by {gap}."
    )


def _percent(estimate: Estimate) -> str:
    text = f"{100 * estimate.value:.1f} %"
    return text if np.isnan(estimate.low) else f"{text} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
