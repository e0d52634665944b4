"""What teachers say of the rows that are trained on: read, audited, and laid beside the rows by id and text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, row_hashes, soft_labels
from tiebreak.errors import DataError, UsageError
from tiebreak.soft_labels import Audit
from tiebreak.train.finetune import rules
from tiebreak.train.finetune.folding import Part
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.terms import terms
from tiebreak.train.finetune.weighting import TAUGHT, untaught
from tiebreak.train.finetune.working import Place

OWN: Final = "blackpearl"
"""Preset of the loss with which `self_distil` hears its teacher, where the recipe's hears none."""


@dataclass(frozen=True)
class Teacher:
    """The soft labels of one teacher.

    Attributes:
        named: What the recipe or the command line calls its files.
        name: As the labels say.
        labels: A validated table, of one file or of its shards.
        audits: One a file.
    """

    named: str
    name: str
    labels: pl.DataFrame
    audits: list[Audit]

    @property
    def forced(self) -> bool:
        """Whether it is used although an audit found something against it."""
        return any(audit.forced and not audit.passed for audit in self.audits)

    @property
    def faults(self) -> list[str]:
        """What the audits found against it, each once."""
        return list(dict.fromkeys(fault for audit in self.audits for fault in audit.faults))


def read(named: Sequence[str | Path]) -> list[Teacher]:
    """The teachers of a run.

    Args:
        named: One a teacher: a file of labels, or a pattern that stands for its shards.

    Raises:
        DataError: A file is not there, is no table of labels, was not audited or was refused.
        UsageError: Two teachers have the same files.
    """
    found = [_teacher(str(one)) for one in named]
    seen: dict[str, str] = {}
    for teacher in found:
        for audit in teacher.audits:
            if audit.labels_sha256 in seen:
                raise UsageError(
                    f"the labels {teacher.named} are there twice (also as {seen[audit.labels_sha256]})",
                    expected="each teacher once",
                    mend="loss.kl and loss.cosine say how much teachers weigh",
                )
            seen[audit.labels_sha256] = teacher.named
    return found


def _teacher(named: str) -> Teacher:
    files = soft_labels.files(named)
    audits = [soft_labels.read_audit(file) for file in files]
    labels = soft_labels.read(files)
    names = labels["teacher"].unique().sort().to_list()
    if len(names) != 1:
        raise DataError(
            f"{named} holds the labels of {len(names)} teachers ({', '.join(map(str, names))})",
            expected="one teacher",
            mend="--teacher FILE for each, or tiebreak teach combine, which makes one of them",
        )
    return Teacher(named, str(names[0]), labels, audits)


def identity(teachers: Sequence[Teacher]) -> str:
    """Fingerprint of all that the labels bring into the training."""
    sums = [[audit.labels_sha256 for audit in teacher.audits] for teacher in teachers]
    return hashlib.sha256(repr(sums).encode()).hexdigest()


def settled(recipe: Recipe, named: Sequence[str] = (), fold: int | None = None) -> Recipe:
    """The recipe with its teachers, and with terms that hear them.

    Args:
        recipe: As it was read.
        named: Teachers in place of those of the recipe; none leaves it its own.
        fold: The one fold that is trained, if it is one.

    Raises:
        UsageError: The loss has terms for teachers and there are none, or teachers and no terms; or `self_distil` with
            teachers, or with one fold alone.
    """
    if named:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"teachers": list(named)})})
    for broken in rules.distillation(recipe, {}):
        raise UsageError(broken.wrong, expected=broken.expected, mend=broken.mend)
    hears = terms(recipe.loss, max(1, len(recipe.data.teachers))).taught
    if not recipe.self_distil:
        if hears and not recipe.data.teachers:
            raise UsageError(
                f"loss.preset {recipe.loss.preset} has terms for teachers, and there are none",
                expected="soft labels of a teacher",
                mend="--teacher LABELS for each, self_distil=true, or loss.preset=cross_entropy",
            )
        if recipe.weighting.kind in TAUGHT and not recipe.data.teachers:
            raise untaught(recipe.weighting)
        return recipe
    if fold is not None:
        raise UsageError(
            f"self_distil with fold {fold} alone: its teacher is all the folds",
            expected="the whole run, or the teacher's folds as jobs of their own",
            mend="train the folds without self_distil, label with them (tiebreak teach label), then --teacher LABELS",
        )
    return recipe if hears else recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"preset": OWN})})


def beside(place: Place, teachers: Sequence[Teacher]) -> Place:
    """The training with what each teacher says of its rows, and with where that came from.

    Raises:
        DataError: A row has no label of some teacher, or its texts are not those that were judged.
    """
    part = place.part
    found = [soft_labels.align(teacher.labels, part.train, where=teacher.named) for teacher in teachers]
    p = np.stack([table.select(comparisons.SOFT).to_numpy() for table in found], axis=1)
    sources = [_source(teacher, table) for teacher, table in zip(teachers, found, strict=True)]
    return replace(place, part=replace(part, teachers=p, taught_by=sources))


def _source(teacher: Teacher, used: pl.DataFrame) -> dict[str, Any]:
    """What the bundle says of a teacher; `used` are the labels of the rows that are trained on."""
    return {
        "name": teacher.name,
        "revisions": used["revision"].drop_nulls().unique().sort().to_list(),
        "renderings": used["rendering"].drop_nulls().unique().sort().to_list(),
        "labels_sha256": [audit.labels_sha256 for audit in teacher.audits],
        "rows": used.height,
        "in_sample": float(used["in_sample"].fill_null(value=False).mean() or 0.0),  # type: ignore[arg-type]
        "in_sample_unknown": used["in_sample"].null_count() / max(used.height, 1),
        "audit": {
            "passed": all(audit.passed for audit in teacher.audits),
            "forced": teacher.forced,
            "faults": teacher.faults,
        },
    }  # fmt: skip


def warnings(parts: Sequence[Part]) -> list[str]:
    """What a person should know of the teachers of some trainings, each thing once."""
    found: dict[str, None] = {}
    for source in (source for part in parts for source in part.taught_by):
        name = f"teacher {source['name']}"
        if source["audit"]["forced"]:
            faults = "; ".join(source["audit"]["faults"])
            found[f"{name} is used although its audit refused it: {faults}"] = None
    for name, share in _largest(parts, "in_sample").items():
        found[
            f"teacher {name}: {share:.0%} of the training rows were in its own training data: there it says what it "
            "remembers, not what it thinks, and is surer than it should be; labels of fold teachers are out of fold"
        ] = None
    for name, share in _largest(parts, "in_sample_unknown").items():
        found[f"teacher {name}: of {share:.0%} of the training rows nobody knows whether it was trained on them"] = None
    return list(found)


def _largest(parts: Sequence[Part], share: str) -> dict[str, float]:
    """The largest such share of each teacher over the trainings, where there is any."""
    found: dict[str, float] = {}
    for source in (source for part in parts for source in part.taught_by):
        if source[share]:
            found[source["name"]] = max(found.get(source["name"], 0.0), source[share])
    return found


@dataclass(frozen=True)
class Coverage:
    """How far a teacher's labels reach, for a dry run.

    Attributes:
        teacher: Its name.
        rows: Rows of the votes that may be trained on.
        labelled: Those that have a label.
        altered: Those whose id has a label, but of other texts.
        in_sample: Labels of those rows that the teacher was trained on.
        forced: Whether its audit is overruled.
    """

    teacher: str
    rows: int
    labelled: int
    altered: int
    in_sample: int
    forced: bool


def coverage(teacher: Teacher, table: pl.DataFrame) -> Coverage:
    """Look whether each of some comparisons has a label, without an error where one has not."""
    rows = table.select("id").with_columns(row_hashes.content(table).alias("judged"))
    found = rows.join(teacher.labels, on="id", how="inner", maintain_order="left")
    same = found.filter(pl.col("content") == pl.col("judged"))
    return Coverage(
        teacher.name, table.height, same.height, found.height - same.height,
        int(same["in_sample"].fill_null(value=False).sum()), teacher.forced,
    )  # fmt: skip
