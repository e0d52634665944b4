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
from tiebreak.errors import DataError, GateError
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

    Raises:
        DataError: There are pseudo-labelled rows: no fold holds them out, so none could label them unseen.
    """
    if made := int(folding.made_up(train).sum()):
        raise DataError(
            f"self_distil with {made:,} pseudo-labelled rows: they have a teacher already",
            expected="votes alone",
            mend="tiebreak teach label FILE for votes and pool alike, then --teacher LABELS instead of self_distil",
        )
    if todo[0].fold is None:
        return todo[0].train.with_columns(fold=pl.lit(None, pl.Int64))
    table = folding.labelled(train, "training", [])
    if not table["fold"].null_count() or table["fold"].is_null().all():
        return table
    dealt = folding.deal(table, [1 / recipe.folds] * recipe.folds, recipe.seed)
    known = pl.col("fold").drop_nulls().min().over(folding.groups(table))
    return table.with_columns(fold=pl.coalesce("fold", known, pl.Series(dealt, dtype=pl.Int64)))


def label(outcome: Outcome, teacher: str) -> Path:
    """Write the out-of-fold predictions as soft labels with their audit; the same outcome gives the same bytes.

    Raises:
        GateError: They are not clearly better than the class shares: there is nothing to learn from such a teacher.
    """
    path = outcome.bundle.parent / f"{outcome.bundle.name}.{LABELS}"
    assert outcome.oof is not None  # noqa: S101 - a teacher has folds
    assert outcome.held_out is not None  # noqa: S101
    audit = None
    if processes.first():
        with storage.replacing(path) as aside:
            _table(outcome, teacher).write_parquet(aside)
        audit = _audit(outcome, path, teacher)
        soft_labels.write_audit(path, audit)
    processes.barrier()
    audit = audit or Audit.model_validate_json(soft_labels.audit_path(path).read_text(encoding="utf-8"))
    if not audit.passed:
        raise GateError(
            f"self_distil: the teacher is refused: {audit.faults[0]}; its labels are in {path}",
            expected="a teacher that knows more than the class shares",
            mend=f"more votes or steps; or, to learn from it all the same, tiebreak teach audit {path} --votes VOTES "
            f"--force and --teacher {path} instead of self_distil",
        )
    return path


def _table(outcome: Outcome, teacher: str) -> pl.DataFrame:
    oof, held_out = outcome.oof, outcome.held_out
    assert oof is not None  # noqa: S101
    assert held_out is not None  # noqa: S101
    manifests = {f: bundle.read(place) for f, place in enumerate(outcome.bundles)}
    revisions = {f: storage.sha256(outcome.bundles[f] / bundle.MANIFEST)[:16] for f in manifests}
    renderings = {f: str(one.settings["fingerprint"]) for f, one in manifests.items()}
    return soft_labels.validate(
        oof.with_columns(
            content=row_hashes.content(held_out),
            teacher=pl.lit(teacher),
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


def _audit(outcome: Outcome, labels: Path, teacher: str) -> Audit:
    """The one question that decides: is it clearly better than always saying how often each class is chosen?

    The rule is that of `tiebreak teach audit`: the 95 % interval (whole groups resampled) of the difference in log-loss
    lies below 0. That command asks more; but these labels were made here, by judges that had not seen the row.
    """
    assert outcome.oof is not None  # noqa: S101
    assert outcome.held_out is not None  # noqa: S101
    targets, fold = comparisons.targets(outcome.held_out), outcome.oof["fold"].to_numpy()
    shares = np.zeros_like(targets)
    for number in np.unique(fold):
        shares[fold == number] = targets[fold != number].mean(axis=0)
    losses = scoring.row_log_loss(predictions.probabilities(outcome.oof), targets)
    prior = scoring.row_log_loss(shares, targets)
    gained = scoring.interval(losses - prior, folding.groups(outcome.held_out).to_numpy())
    clear = gained.high < 0
    fault = (
        f"its out-of-fold log-loss {losses.mean():.4f} is not clearly better than the {prior.mean():.4f} of the class "
        f"shares (difference {gained.value:+.4f} [{gained.low:+.4f}, {gained.high:+.4f}])"
    )
    figures: dict[str, JsonValue] = {
        "log_loss": float(losses.mean()), "prior_log_loss": float(prior.mean()),
        "difference": [gained.value, gained.low, gained.high], "by": "self_distil",
    }  # fmt: skip
    return Audit(
        labels_sha256=storage.sha256(labels), teacher=teacher, rows=outcome.oof.height, passed=clear,
        faults=[] if clear else [fault], figures=figures,
    )  # fmt: skip
