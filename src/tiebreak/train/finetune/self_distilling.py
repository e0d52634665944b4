"""Self-distillation: the recipe's own folds, trained on the votes alone, are the teacher of its judge.

The third place of WSDM Cup 2025 found the gain of a 14B model's own out-of-fold logits to be that of a 72B teacher:
what helps is that noisy votes are replaced by what was learnt from other votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from pydantic import JsonValue

from tiebreak import bundle, comparisons, predictions, row_hashes, scoring, soft_labels, storage
from tiebreak.errors import GateError
from tiebreak.soft_labels import Audit
from tiebreak.train.finetune import folding, processes
from tiebreak.train.finetune.folding import Part
from tiebreak.train.finetune.outcomes import Outcome
from tiebreak.train.finetune.recipe import Loss, Recipe
from tiebreak.train.finetune.weighting import TAUGHT

FOLDS: Final = 3
"""Folds of the teacher where the recipe has none."""

LABELS: Final = "labels.parquet"


def teacher(recipe: Recipe) -> Recipe:
    """The recipe of the teacher's folds: the same, on the votes alone."""
    plain = Loss(smoothing=recipe.loss.smoothing, focal=recipe.loss.focal)
    weighting = recipe.weighting
    if weighting.kind in TAUGHT:
        weighting = weighting.model_copy(update={"kind": None})
    data = recipe.data.model_copy(update={"validation": None, "teachers": []})
    return recipe.model_copy(update={
        "name": f"{recipe.name}-teacher", "folds": recipe.folds or FOLDS, "self_distil": False, "loss": plain,
        "weighting": weighting, "data": data,
    })  # fmt: skip


def rows(recipe: Recipe, train: pl.DataFrame, todo: Sequence[Part]) -> pl.DataFrame:
    """The votes that the teacher learns from, each held out in exactly one of its folds.

    Args:
        recipe: Of the teacher.
        train: The votes of the run.
        todo: Its trainings. Of a single one the votes held out stay unseen by the teacher too; of folds, the teacher
            has the very same ones, and votes that belong to none are dealt to them, each beside its group.
    """
    if todo[0].fold is None:
        return todo[0].train.with_columns(fold=pl.lit(None, pl.Int64))
    table = folding.labelled(train, "training", [])
    if not table["fold"].null_count() or table["fold"].is_null().all():
        return table
    dealt = folding.deal(table, [1 / recipe.folds] * recipe.folds, recipe.seed)
    known = pl.col("fold").drop_nulls().min().over(folding.groups(table))
    return table.with_columns(fold=pl.coalesce("fold", known, pl.Series(dealt, dtype=pl.Int64)))


def label(outcome: Outcome, student: str) -> Path:
    """Write the out-of-fold predictions as soft labels with their audit; the same outcome gives the same bytes.

    Raises:
        GateError: They are no better than the class shares: there is nothing to learn from such a teacher.
    """
    path = outcome.bundle.parent / f"{outcome.bundle.name}.{LABELS}"
    assert outcome.oof is not None  # noqa: S101 - a teacher has folds
    assert outcome.held_out is not None  # noqa: S101
    audit = None
    if processes.first():
        with storage.replacing(path) as aside:
            _table(outcome, student).write_parquet(aside)
        audit = _audit(outcome, path, student)
        soft_labels.write_audit(path, audit)
    processes.barrier()
    audit = audit or Audit.model_validate_json(soft_labels.audit_path(path).read_text(encoding="utf-8"))
    if not audit.passed:
        raise GateError(
            f"self_distil: {audit.faults[0]}; its labels are in {path}",
            expected="a teacher that knows more than the class shares",
            mend=f"more votes or steps; or, to learn from it all the same, tiebreak teach audit {path} --votes VOTES "
            f"--force and --teacher {path} instead of self_distil",
        )
    return path


def _table(outcome: Outcome, student: str) -> pl.DataFrame:
    oof, held_out = outcome.oof, outcome.held_out
    assert oof is not None  # noqa: S101
    assert held_out is not None  # noqa: S101
    manifests = {f: bundle.read(place) for f, place in enumerate(outcome.bundles)}
    revisions = {f: storage.sha256(outcome.bundles[f] / bundle.MANIFEST)[:16] for f in manifests}
    renderings = {f: str(one.settings["fingerprint"]) for f, one in manifests.items()}
    return soft_labels.validate(
        oof.with_columns(
            content=row_hashes.content(held_out),
            teacher=pl.lit(student),
            revision=pl.col("fold").replace_strict(revisions, return_dtype=pl.String),
            rendering=pl.col("fold").replace_strict(renderings, return_dtype=pl.String),
            in_sample=_in_sample(outcome),
        ),
        where="self_distil: the votes",
    )


def _in_sample(outcome: Outcome) -> pl.Series:
    """A fold has not seen the rows that it holds out, but the judge that it began with (`start`) may have."""
    assert outcome.oof is not None  # noqa: S101
    assert outcome.held_out is not None  # noqa: S101
    seen = {fold: row_hashes.read_trained(place) for fold, place in enumerate(outcome.bundles)}
    rows = zip(row_hashes.unordered(outcome.held_out), outcome.oof["fold"], strict=True)
    found = [None if (known := seen[fold]) is None else row in known for row, fold in rows]
    return pl.Series("in_sample", found, dtype=pl.Boolean)


def _audit(outcome: Outcome, labels: Path, student: str) -> Audit:
    """The one question that decides: is it better than always saying how often each class is chosen?

    `tiebreak teach audit` asks more; but these labels were made here, row by row, by judges that had not seen the row.
    """
    assert outcome.oof is not None  # noqa: S101
    assert outcome.held_out is not None  # noqa: S101
    targets, fold = comparisons.targets(outcome.held_out), outcome.oof["fold"].to_numpy()
    loss = scoring.log_loss(predictions.probabilities(outcome.oof), targets)
    shares = np.zeros_like(targets)
    for number in np.unique(fold):
        shares[fold == number] = targets[fold != number].mean(axis=0)
    prior = scoring.log_loss(shares, targets)
    faults = [f"out-of-fold log-loss {loss:.4f}, the class shares alone have {prior:.4f}"] if loss >= prior else []
    figures: dict[str, JsonValue] = {"log_loss": loss, "prior_log_loss": prior, "by": "self_distil"}
    return Audit(
        labels_sha256=storage.sha256(labels), teacher=student, rows=outcome.oof.height, passed=not faults,
        faults=faults, figures=figures,
    )  # fmt: skip
