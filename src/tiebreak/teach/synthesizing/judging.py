"""Labels of new pairs by one teacher, or by several as one, each audited as any teacher's labels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import judges, storage
from tiebreak.errors import UsageError
from tiebreak.judges import Runtime
from tiebreak.predict import Progress
from tiebreak.predict.progress import SILENT
from tiebreak.teach import auditing, combining, labelling
from tiebreak.teach.auditing import Findings
from tiebreak.teach.labelling import Team

EMBEDDED: Final = "embedded"
"""Stands for the judge that ships with tiebreak."""


@dataclass(frozen=True)
class Labelled:
    """What the teachers said.

    Attributes:
        output: The labels, `STEM.labels.parquet`, with their audit beside them.
        rows: Labels.
        teacher: The name they go under.
        files: Of several teachers, the labels of each one.
        findings: Of the audit.
    """

    output: Path
    rows: int
    teacher: str
    files: tuple[Path, ...]
    findings: Findings


def read(places: Sequence[Path]) -> list[Team]:
    """The teachers: a bundle each, or a folder with the fold teachers of one, or "embedded".

    Raises:
        UsageError: Two go under one name.
        BundleError: One is damaged, or there is none.
    """
    teams = [labelling.read([] if str(place) == EMBEDDED else [place]) for place in places]
    names = [team.name for team in teams]
    if len(set(names)) < len(names):
        raise UsageError(
            f"teachers of one name: {', '.join(names)}", expected="each under a name of its own (--name at training)"
        )
    return teams


def label(
    pairs: pl.DataFrame,
    teams: Sequence[Team],
    output: Path,
    *,
    runtime: Runtime | None = None,
    progress: Progress = SILENT,
) -> Labelled:
    """Label pairs, resumable as `tiebreak teach label` is. Several teachers are averaged: there is no vote to fit on.

    Args:
        pairs: Comparisons without votes.
        teams: One or more teachers.
        output: The table of pairs; the labels lie beside it.
        runtime: How judges with a network run.
        progress: Hears of finished chunks.
    """
    target = _beside(output, "")
    paths = [target] if len(teams) == 1 else [_beside(output, f"-{team.name}") for team in teams]
    tables = {}
    for team, path in zip(teams, paths, strict=True):
        how = runtime if judges.has_network(team.teachers[0].manifest) else None
        found = labelling.label(labelling.plan(pairs, team, path, runtime=how), progress=progress)
        tables[team.name] = found.labels
        findings = _audit(found.labels, pairs, path)
    labels = tables[teams[0].name]
    if len(teams) > 1:
        labels = combining.combine(tables, pairs, calibration="none").labels
        with storage.replacing(target) as aside:
            labels.write_parquet(aside)
        findings = _audit(labels, pairs, target)
    name = "+".join(labels["teacher"].unique().sort())
    return Labelled(target, labels.height, name, tuple(paths) if len(teams) > 1 else (), findings)


def _beside(output: Path, teacher: str) -> Path:
    return output.with_name(f"{output.stem}.labels{teacher}.parquet")


def _audit(labels: pl.DataFrame, pairs: pl.DataFrame, path: Path) -> Findings:
    made = auditing.Labels(labels, where=str(path), files=(path,))
    findings = auditing.audit(made, pairs)
    auditing.record(findings, made)
    return findings
