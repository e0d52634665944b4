"""The audit: every check on one teacher's labels, and its record beside the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import JsonValue

from tiebreak import comparisons, row_hashes, soft_labels, storage
from tiebreak.errors import UsageError
from tiebreak.soft_labels import Audit
from tiebreak.teach.auditing import form, order, skill
from tiebreak.teach.auditing.findings import Findings
from tiebreak.teach.auditing.measures import Judged
from tiebreak.teach.auditing.meeting import Met, meet
from tiebreak.teach.auditing.reading import Labels


def audit(
    labels: Labels,
    votes: pl.DataFrame,
    *,
    require_all: bool = True,
    allow_in_sample: bool = False,
    seed: int = 0,
) -> Findings:
    """Look for whatever makes labels unfit to be learned from.

    Args:
        labels: Of one teacher.
        votes: The comparisons that were labelled: a table of comparisons, or ids and labels without texts.
        require_all: A label is demanded for every row; else only for rows with a vote.
        allow_in_sample: Labels of rows that the teacher was trained on are no fault.
        seed: Of folds and resamples.

    Raises:
        DataError: The votes are none, or name an id twice.
    """
    findings = Findings()
    met = meet(labels, votes, findings, require_all=require_all)
    if not met.known.any():
        return findings
    form.shape(met, findings)
    form.scale(met, findings)
    form.lengths(met, findings)
    form.orders(met, findings)
    form.origin(met, findings, allow_in_sample=allow_in_sample)
    made_of = form.tie_origin(met, findings)
    if met.judged.any():
        _against_votes(met, findings, made_of, seed)
    else:
        findings.warnings.append("no labelled row has a vote: what the teacher knows could not be measured")
        if made_of is not None:
            findings.warnings.append(f"p_tie was derived, not predicted: {made_of}")
    return findings


def _against_votes(met: Met, findings: Findings, made_of: str | None, seed: int) -> None:
    rows = met.judged
    judged = Judged(met.p[rows], met.targets[rows], met.weights[rows], met.groups[rows], seed)
    unknown = met.labels["in_sample"].is_null().to_numpy()
    skill.check(judged, findings, seed=seed, unknown_origin=bool(unknown[rows].any()))
    skill.ties(judged, made_of, findings)
    fold = met.labels["fold"].cast(pl.Float64).fill_null(float("nan")).to_numpy()[rows]
    if len(np.unique(fold[~np.isnan(fold)])) > 1:
        skill.folds(judged, fold, findings, seed)
    order.check(met, findings)


def record(findings: Findings, labels: Labels, *, forced: bool = False) -> Audit:
    """Write the audit beside every file of the labels, and give back the last one written.

    Args:
        findings: Of `audit`.
        labels: Read from files.
        forced: The labels are used although something was found.
    """
    if not labels.files:
        raise ValueError("labels that were not read from a file")
    for path in labels.files:
        written = document(findings, path, labels, forced=forced)
        soft_labels.write_audit(path, written)
    return written


def document(findings: Findings, path: Path, labels: Labels, *, forced: bool = False) -> Audit:
    """The audit of one of the files of labels; the findings are those of all of them together."""
    warnings: list[JsonValue] = list(findings.warnings)
    return Audit(
        labels_sha256=storage.sha256(path),
        teacher=labels.teacher,
        rows=labels.table.height,
        passed=not findings.faults,
        faults=findings.faults,
        forced=forced and bool(findings.faults),
        figures={**findings.figures, "warnings": warnings},
    )


def keep(labels: Labels, votes: pl.DataFrame, output: Path, findings: Findings, *, forced: bool = False) -> int:
    """Write labels that came from elsewhere as a table of labels, with its audit; give back how many.

    What a foreign table does not say of its texts is taken from the votes, by id.

    Raises:
        UsageError: The votes have no texts.
        DataError: The table cannot be one of labels (doubled ids, rows that are no probabilities).
    """
    if not set(comparisons.TEXTS) <= set(votes.columns):
        raise UsageError(f"-o {output}", expected="--votes with texts: labels name the texts that they judged")
    ours = votes.select("id", row_hashes.content(votes).alias("ours"))
    table = labels.table.join(ours, on="id", how="inner", maintain_order="left")
    table = table.with_columns(pl.coalesce("content", "ours").alias("content"))
    kept = soft_labels.validate(table, where=labels.where)
    with storage.replacing(output) as aside:
        kept.write_parquet(aside)
    soft_labels.write_audit(output, document(findings, output, labels, forced=forced))
    return kept.height
