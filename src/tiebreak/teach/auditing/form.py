"""What the labels look like by themselves: constants, certainties, lengths, made-up ties, orders, origin."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from tiebreak.calibrate import alarm
from tiebreak.calibration import FLOOR
from tiebreak.teach.auditing.findings import Findings
from tiebreak.teach.auditing.measures import entropy, rank_correlation
from tiebreak.teach.auditing.meeting import Met

ONE_HOT: Final = 0.05
"""Mean entropy in nats below which labels are certainties, which teach nothing that a vote does not."""

LENGTH: Final = 0.9
"""Rank correlation of P(A) - P(B) with the difference in length from which a label is almost nothing but length. A
judge of 75 counted features, which leans on length as much as people do, reaches .58 to .77 on six sets of votes."""

SHORTER: Final = -0.8
"""The same where the shorter answer is preferred: people seldom do, log-likelihoods summed over tokens always."""

LENGTH_WARNING: Final = 0.8

LONGER: Final = 0.97
"""Share of rows in which the longer (or always the shorter) answer is preferred, with the same meaning: a rank
correlation cannot reach 1 where probabilities are all 0 and 1."""

SUMMED: Final = -0.8
"""Rank correlation of a logit with the length of its own answer below which it is a sum over the answer's tokens."""

NO_LOGIT: Final = -20.0
"""Median of the larger of the logits of A and B below which they are no logits: no head puts out -20 everywhere."""

DISAGREEMENT: Final = 0.2
"""Mean gap between the two orders from which a warning is made."""

LEAN: Final = 0.1

_SAME: Final = 1e-6
_ROWS: Final = 50
"""Fewer rows than this tell no rule that labels would follow."""

_FUNCTION: Final = 1e-3
"""Mean squared difference between neighbours, as a share of the variance, below which one follows from the other."""


def shape(met: Met, findings: Findings) -> None:
    """Constants and certainties."""
    p = met.p[met.known]
    spread = entropy(p)
    even = np.ones(len(p))
    findings.note(
        entropy_mean=float(spread.mean()), entropy_p5=float(np.quantile(spread, 0.05)),
        entropy_p95=float(np.quantile(spread, 0.95)), information=alarm.information(p, even),
        mean=[float(x) for x in p.mean(axis=0)],
    )  # fmt: skip
    if np.ptp(p, axis=0).max() < alarm.CONSTANT:
        findings.faults.append(f"the teacher says the same of every row: {[round(float(x), 4) for x in p[0]]}")
    elif alarm.information(p, even) < alarm.MINIMUM_INFORMATION and not met.judged.any():
        # Beside votes, calibration tells a shy teacher from one that knows nothing.
        findings.faults.append(
            f"the labels are hardly more than a constant (information {alarm.information(p, even):.5f} nats)"
        )
    if float(spread.mean()) < ONE_HOT:
        findings.faults.append(f"the labels are certainties (mean entropy {spread.mean():.4f} nats): one-hot")


def lengths(met: Met, findings: Findings) -> None:
    """How far the labels are a matter of length."""
    if not met.has_texts:
        findings.warnings.append(
            "no texts among the votes: whether the labels are nothing but length was not looked at"
        )
        return
    a, b = (_length(met.votes, name)[met.known] for name in ("response_a", "response_b"))
    p = met.p[met.known]
    lead = p[:, 0] - p[:, 1] if met.logits is None else _lead(met.logits[met.known])
    rho = rank_correlation(lead, a - b)
    told = (lead != 0) & (a != b)
    longer = float(((lead > 0) == (a > b))[told].mean()) if told.any() else None
    findings.note(length_correlation=rho, longer_preferred=longer)
    if met.logits is not None:
        _summed(met.logits[met.known], a, b, findings)
    if rho is None or longer is None:
        return
    extreme = rho >= LENGTH or rho <= SHORTER or not 1 - LONGER < longer < LONGER
    figures = (
        f"rank correlation {rho:+.2f} with the difference in characters, the longer answer preferred in {longer:.0%}"
    )
    if extreme and int(told.sum()) >= _ROWS:
        findings.faults.append(f"the label is almost nothing but length: {figures} of rows")
    elif extreme or abs(rho) >= LENGTH_WARNING:
        findings.warnings.append(f"the label leans on length: {figures} of rows")


def _lead(logits: np.ndarray) -> np.ndarray:
    lead: np.ndarray = logits[:, 0] - logits[:, 1]
    return lead


def _summed(logits: np.ndarray, a: np.ndarray, b: np.ndarray, findings: Findings) -> None:
    own = rank_correlation(np.concatenate([logits[:, 0], logits[:, 1]]), np.concatenate([a, b]))
    findings.note(logit_length_correlation=own)
    if own is not None and own <= SUMMED:
        findings.faults.append(
            f"the logits fall with the length of their own answer (rank correlation {own:+.2f}): these are "
            "log-likelihoods summed over the answer's tokens, no preferences"
        )


def scale(met: Met, findings: Findings) -> None:
    """Whether numbers given as logits can be such."""
    if met.logits is None:
        return
    median = float(np.median(met.logits[met.known][:, :2].max(axis=1)))
    findings.note(logit_median=median)
    if median < NO_LOGIT:
        findings.faults.append(
            f"the larger logit of A and B has the median {median:.0f}: such numbers are log-likelihoods of texts, "
            "no logits of a verdict"
        )


def _length(votes: pl.DataFrame, name: str) -> np.ndarray:
    joined = votes.select(pl.col(name).list.join("", ignore_nulls=True).str.len_chars()).to_series()
    return joined.fill_null(0).cast(pl.Float64).to_numpy()


def tie_origin(met: Met, findings: Findings) -> str | None:
    """What p_tie was made from, in words; None where it looks predicted. A constant one is a fault at once."""
    p = met.p[met.known]
    votes = met.targets[met.judged]
    if np.ptp(p, axis=0).max() < alarm.CONSTANT:
        return None
    if np.ptp(p[:, 2]) < alarm.CONSTANT:
        if len(votes) and not (votes[:, 2] > 0).any():
            return None
        fault = f"p_tie is {p[0, 2]:.4g} in every row although people do vote tie: it was made up, not predicted"
        if fault not in findings.faults:
            findings.faults.append(fault)
        return None
    logs = np.log(np.clip(p, FLOOR, None)) if met.logits is None else met.logits[met.known]
    a, b, tie = logs.T
    if met.logits is not None and np.ptp(tie) < _SAME:
        return f"its logit is {tie[0]:.4g} in every row"
    rules = {"mean": (a + b) / 2, "larger": np.maximum(a, b), "smaller": np.minimum(a, b)}
    for name, made in rules.items():
        if np.ptp(tie - made) < _SAME * max(1.0, float(np.ptp(made))):
            return f"its logit is the {name} of the other two" + (
                " and a constant" if abs(tie[0] - made[0]) > _SAME else ""
            )
    return "it is a function of how far A and B differ" if _is_function(tie - (a + b) / 2, np.abs(a - b)) else None


def _is_function(values: np.ndarray, of: np.ndarray) -> bool:
    """Whether `values` hardly jump from one row to the next when rows are ordered by `of`."""
    if len(np.unique(of)) < max(_ROWS, len(of) / 2):
        return False
    ordered = values[np.lexsort((values, of))]
    spread = float(ordered.var())
    return spread > 0 and float((np.diff(ordered) ** 2).mean()) / 2 / spread < _FUNCTION


def orders(met: Met, findings: Findings) -> None:
    """How far the two orders of the answers disagree, and whether one side is favoured."""
    gaps = met.labels["swap_gap"].fill_null(float("nan")).to_numpy()
    gaps = gaps[np.isfinite(gaps)]
    mean, p99 = (float(gaps.mean()), float(np.quantile(gaps, 0.99))) if len(gaps) else (None, None)
    findings.note(swap_gap_known=len(gaps), swap_gap_mean=mean, swap_gap_p99=p99)
    if mean is not None and mean > DISAGREEMENT:
        findings.warnings.append(
            f"the two orders of the answers disagree by {mean:.2f} on average: judge both (--swap)"
        )
    lead = met.p[:, 0] - met.p[:, 1]
    rows = met.judged if met.judged.any() else met.known
    voted = np.nan_to_num(met.targets[rows, 0] - met.targets[rows, 1])
    weights = met.weights[rows] if met.judged.any() else None
    said, wanted = float(np.average(lead[rows], weights=weights)), float(np.average(voted, weights=weights))
    findings.note(lean_to_a=float(lead[met.known].mean()))
    # Two standard errors of a vote's side, so that few rows accuse nobody.
    if abs(said - wanted) > LEAN + 2 / np.sqrt(rows.sum()):
        findings.warnings.append(f"one side is favoured: P(A) - P(B) is {said:+.2f} on average, votes {wanted:+.2f}")


def origin(met: Met, findings: Findings, *, allow_in_sample: bool) -> None:
    """Whether the teacher was trained on these rows, and whether the table is one teacher's, rendered in one way."""
    table, judged = met.labels.filter(met.known), pl.Series(met.judged[met.known])
    inside = int((table["in_sample"].fill_null(value=False) & judged).sum())
    unknown = table["in_sample"].null_count()
    findings.note(
        in_sample=int(table["in_sample"].sum()), in_sample_judged=inside, in_sample_unknown=unknown,
        in_sample_share=int(table["in_sample"].sum()) / max(table.height, 1),
        truncated_share=float(table["truncated"].fill_null(value=False).mean() or 0.0),  # type: ignore[arg-type]
        teachers=table["teacher"].unique().sort().to_list(), revisions=table["revision"].n_unique(),
        renderings=table["rendering"].n_unique(),
    )  # fmt: skip
    if inside and not allow_in_sample:
        findings.faults.append(
            f"{inside:,} rows with a vote were in the teacher's training data: such labels repeat the votes "
            "(--allow-in-sample)"
        )
    elif inside:
        findings.warnings.append(f"{inside:,} rows with a vote were in the teacher's training data (allowed)")
    if unknown:
        findings.warnings.append(
            f"of {unknown:,} labels nobody knows whether the teacher was trained on their rows; figures may flatter it"
        )
    if table["teacher"].n_unique() > 1:
        findings.faults.append(f"labels of {table['teacher'].n_unique()} teachers in one table: audit each by itself")
    if table["rendering"].n_unique() > 1:
        findings.faults.append(f"rows were rendered in {table['rendering'].n_unique()} ways: one teacher reads one way")
    per_fold = (
        table.drop_nulls("fold").group_by("fold").agg(pl.col("revision").n_unique()).filter(pl.col("revision") > 1)
    )
    if per_fold.height:
        findings.faults.append(
            f"fold {', '.join(map(str, per_fold['fold'].sort()))} was labelled by several revisions of its teacher"
        )
