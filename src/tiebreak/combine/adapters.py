"""The judges of several folds as one: averaged four ways, each way measured, one kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tiebreak import pooling
from tiebreak.combine import making, measuring
from tiebreak.combine.candidates import Candidate, candidates
from tiebreak.combine.measuring import Advance, Figures, Scored
from tiebreak.combine.planning import BEST, Plan
from tiebreak.errors import DataError
from tiebreak.judges.finetuned import FinetunedJudge

MEAN: Final = "mean of probabilities"
PRIOR: Final = "prior"


@dataclass(frozen=True)
class Averaged:
    """The outcome.

    Attributes:
        judge: The one that was kept, not yet saved.
        method: How it was made, such as "svd:16".
        figures: By name, in the order of a table: the mean of probabilities, the judges, the prior, the methods.
        skipped: Methods that these adapters do not allow, and why.
        document: All figures as JSON values, as the bundle holds them under `averaging`.
        warnings: What speaks against the one that was kept.
        judges: By method, every one that was measured; the one that was kept is among them.
    """

    judge: FinetunedJudge
    method: str
    figures: dict[str, Figures]
    skipped: dict[str, str]
    document: dict[str, Any]
    warnings: list[str]
    judges: dict[str, FinetunedJudge]


def average(plan: Plan, advance: Advance = lambda _: None, *, place: Path | None = None) -> Averaged:
    """Average, measure every way on the same rows, and keep one.

    `best` is the smallest bundle among the ways that the lowest log-loss does not beat beyond its paired interval.

    Args:
        plan: From `plan`.
        advance: Told how many rows were scored.
        place: Folder for temporary files; None is the system's.

    Raises:
        DataError: An adapter is no plain LoRA adapter, or the method asked for is not possible with these.
    """
    members, votes, runtime = plan.members, plan.votes, plan.choices.runtime
    made = candidates(members, plan.weights, plan.choices, place)
    if reason := next((one.reason for one in made if one.method == plan.choices.asked and one.reason), None):
        raise DataError(f"--method {plan.choices.asked}: {reason}", mend="--method exact")
    judged = {one.name: measuring.score(one.judge, votes.table, runtime, advance) for one in members}
    mean = pooling.linear(np.stack([one.probabilities for one in judged.values()]), plan.weights)
    scored = {one: _score(one, plan, advance) for one in made if one.judge is not None}
    figures = {MEAN: votes.figures(mean, mean)}
    figures |= {name: votes.figures(one.probabilities, mean, swap_gap=one.swap_gap) for name, one in judged.items()}
    figures[PRIOR] = votes.figures(votes.prior(), mean)
    for one, said in scored.items():
        figures[one.label] = votes.figures(said.probabilities, mean, **one.figures(), swap_gap=said.swap_gap)
    kept = _kept(plan, scored)
    skipped = {one.label: one.reason for one in made if one.reason is not None}
    warnings = verdict(kept.label, figures)
    document = _document(plan, made, kept, figures, skipped, warnings)
    assert kept.judge is not None  # noqa: S101 - it was scored
    judge = making.with_figures(kept.judge, {"averaging": document}, _card(document))
    judges = {one.method: one.judge for one in scored if one.judge is not None}
    return Averaged(judge, kept.label, figures, skipped, document, warnings, judges)


def _score(one: Candidate, plan: Plan, advance: Advance) -> Scored:
    assert one.judge is not None  # noqa: S101 - the caller asked
    runtime = plan.choices.runtime
    if one.judge.settings.base is None:
        runtime = replace(runtime, base=None)
    return measuring.score(one.judge, plan.votes.table, runtime, advance)


def _kept(plan: Plan, scored: dict[Candidate, Scored]) -> Candidate:
    if plan.choices.asked != BEST:
        return next(one for one in scored if one.method == plan.choices.asked)
    draws = {one.label: plan.votes.draws(said.probabilities) for one, said in scored.items()}
    best = measuring.choose(draws, {one.label: one.size for one in scored})
    return next(one for one in scored if one.label == best)


def verdict(label: str, figures: Mapping[str, Figures]) -> list[str]:
    """What speaks against a method: that it is clearly worse than the mean of probabilities, or beats no prior."""
    one, prior = figures[label], figures[PRIOR].log_loss.value
    found = []
    if one.change.low > 0:
        change = f"{one.change.value:.4f} [{one.change.low:.4f}, {one.change.high:.4f}]"
        found.append(
            f"{label} is worse than the {MEAN} by {change}: these judges do not average well; blend their predictions, "
            "or let the folds start from common weights (start.bundle)"
        )
    if one.log_loss.value >= prior:
        found.append(
            f"{label} is no better than the prior: log-loss {one.log_loss.value:.4f}, the class shares of these votes "
            f"give {prior:.4f}"
        )
    return found


def _document(
    plan: Plan, made: Sequence[Candidate], kept: Candidate, figures: dict[str, Figures], skipped: dict[str, str],
    warnings: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    parts = [
        {"name": one.name, "judge": one.judge.manifest.name, "revision": making.revision(one), "weight": float(share)}
        for one, share in zip(plan.members, plan.weights, strict=True)
    ]
    return {
        "method": kept.label, "asked": plan.choices.asked, "parts": parts, "rows": plan.votes.rows,
        "groups": plan.votes.groups, "seen_left_out": plan.seen, "reference": MEAN,
        "figures": {name: one.document() for name, one in figures.items()}, "skipped": skipped,
        "modules": {one.label: one.modules() for one in made if one.modules()}, "notes": [*plan.notes, *warnings],
    }  # fmt: skip


def _card(document: dict[str, Any]) -> str:
    """The table for the card."""
    lines = ["| | log-loss | against the mean of probabilities |", "|---|--:|--:|"]
    for name, one in document["figures"].items():
        change = one["change"]
        lines.append(f"| {name} | {one['log_loss'][0]:.4f} | {change[0]:+.4f} |")
    return (
        f"## Averaged\n\nOf {len(document['parts'])} judges, by `{document['method']}`; measured on "
        f"{document['rows']:,} votes that none was trained on:\n\n" + "\n".join(lines) + "\n"
    )
