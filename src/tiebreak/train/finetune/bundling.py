"""From a finished training to the judge that is saved."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from tiebreak import comparisons, row_hashes
from tiebreak.bundle import TrainingSource
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.generative import GenerativeJudge
from tiebreak.judges.siamese import SiameseJudge
from tiebreak.train.finetune import card, modelling
from tiebreak.train.finetune.fit import Fitted
from tiebreak.train.finetune.folding import Part
from tiebreak.train.finetune.recipe import Recipe

JUDGES: dict[str, type[FinetunedJudge]] = {
    "classifier": ClassifierJudge, "siamese": SiameseJudge, "generative": GenerativeJudge,
}  # fmt: skip


def judge(part: Part, recipe: Recipe, fitted: Fitted) -> FinetunedJudge:
    """The judge with the weights of the best step, its training data, figures and card. Its weights are on the disk."""
    name = recipe.name if part.fold is None else f"{recipe.name}-fold-{part.fold}"
    training, figures = sources(part.train), metrics(part, fitted)
    own: dict[str, Any] = {"verdicts": modelling.verdicts(recipe)} if recipe.judge == GenerativeJudge.kind else {}
    return JUDGES[recipe.judge].make(
        name=name,
        model=fitted.model,
        tokenizer=fitted.renderers[0].tokenizer,
        template=recipe.templates[0],
        base=recipe.base.model_copy(update={"shape": None}),
        head=recipe.head,
        quantize=recipe.quantize,
        soft_capping=recipe.soft_capping,
        recipe=recipe.model_dump(mode="json"),
        training=training,
        metrics=figures,
        card=card.write(name, recipe, training, figures),
        files=seen(part, recipe),
        **own,
    )


def seen(part: Part, recipe: Recipe) -> dict[str, bytes]:
    """The file that says which rows the judge was trained on, those of the judge it started from among them.

    Empty where that one does not say: then nobody can tell.
    """
    before = row_hashes.read_trained(Path(recipe.start.bundle)) if recipe.start.bundle else frozenset()
    if before is None:
        return {}
    return {row_hashes.TRAINED: row_hashes.trained_file({*row_hashes.unordered(part.train), *before})}


def sources(table: pl.DataFrame) -> list[TrainingSource]:
    """What was trained on, one entry a source."""
    named = table.with_columns(pl.col("source").fill_null("votes"))
    return [
        TrainingSource(name=str(name), rows=rows.height, fingerprint=comparisons.fingerprint(rows))
        for (name,), rows in named.group_by("source", maintain_order=True)
    ]


def metrics(part: Part, fitted: Fitted) -> dict[str, Any]:
    """The figures of the step that the bundle holds; the same run gives the same bytes, so no times are among them."""
    held_out = {} if fitted.figures is None else {"validation": asdict(fitted.figures)}
    return {
        **held_out,
        **({} if part.fold is None else {"fold": part.fold}),
        **({"teachers": part.taught_by} if part.taught_by else {}),
        "rows": part.train.height,
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "findings": fitted.findings,
    }
