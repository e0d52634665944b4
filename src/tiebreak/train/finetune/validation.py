"""Scoring held-out votes while training: packed, both orders averaged, as prediction does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import nn

from tiebreak import comparisons, predictions, scoring
from tiebreak.engine import pack
from tiebreak.render import Renderer
from tiebreak.train.finetune import processes
from tiebreak.train.finetune.collating import Examples, cut, render
from tiebreak.train.finetune.loop import arithmetic
from tiebreak.train.finetune.progress import Figures
from tiebreak.train.finetune.recipe import Recipe


@dataclass(frozen=True)
class HeldOut:
    """Votes that are scored, never trained on.

    Attributes:
        table: Validated comparisons, all with a label.
        examples: The same rows rendered with the first template, in both orders where both are averaged.
        prior: Class shares of the training rows, shape (3,).
    """

    table: pl.DataFrame
    examples: Examples
    prior: np.ndarray

    @classmethod
    def of(cls, table: pl.DataFrame, renderer: Renderer, recipe: Recipe, prior: np.ndarray) -> HeldOut:
        """Render the rows that the recipe wants scored."""
        rows = recipe.evaluation.rows
        if rows is not None and rows < table.height:
            chosen = np.random.default_rng([recipe.seed, rows]).permutation(table.height)[:rows]
            table = table[np.sort(chosen)]
        return cls(table, render(table, [renderer], recipe.judge, twin=recipe.evaluation.swap), prior)

    def score(self, model: nn.Module, recipe: Recipe, place: torch.device) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of shape (rows, 3), and how far the two orders disagree, shape (rows,)."""
        logits = _logits(model, self.examples, recipe, place)
        given = predictions.softmax(logits[:, 0])
        if logits.shape[1] == 1:
            return given, np.zeros(len(given))
        mirrored = predictions.softmax(logits[:, 1])[:, [1, 0, 2]]
        gap: np.ndarray = np.abs(given - mirrored).max(axis=1)
        return (given + mirrored) / 2, gap

    def figures(self, probabilities: np.ndarray, gap: np.ndarray | None) -> Figures:
        """What the probabilities are worth."""
        targets = comparisons.targets(self.table)
        weights = self.table["weight"].fill_null(1.0).to_numpy()
        weights = weights if weights.sum() > 0 else np.ones(len(weights))
        constant = np.tile(self.prior, (len(targets), 1))
        return Figures(
            log_loss=scoring.log_loss(probabilities, targets, weights),
            accuracy=scoring.accuracy(probabilities, targets, weights),
            macro_f1=scoring.macro_f1(probabilities, targets, weights),
            confusion=scoring.confusion(probabilities, targets, weights).tolist(),
            prior_log_loss=scoring.log_loss(constant, targets, weights),
            spread=float(probabilities.std(axis=0).mean()),
            tie_share=float((predictions.verdicts(probabilities) == 2).mean()),
            swap_gap=None if gap is None else float(gap.mean()),
            rows=len(targets),
        )


def _logits(model: nn.Module, examples: Examples, recipe: Recipe, place: torch.device) -> np.ndarray:
    """Logits of shape (rows, views, 3) in float64; the processes share the work and all have the result."""
    lengths = examples.lengths.reshape(-1)
    parts = cut(lengths, recipe.batches.tokens, recipe.batches.packing)
    mine = parts[processes.rank() :: processes.world()]
    # Sharded weights are gathered by all processes together: each must run as often as the others.
    spare = -(-len(parts) // processes.world()) - len(mine)
    flat = examples.members.reshape(len(lengths), -1)
    out = np.zeros((len(lengths), 3))
    model.eval()
    with torch.no_grad():
        for number, part in enumerate([*mine, *([parts[0]] * spare)]):
            members = flat[part]
            pairs = torch.arange(members.size).reshape(members.shape).to(place) if members.shape[1] == 2 else None
            with arithmetic(recipe.precision, place.type):
                logits = model(pack(examples.sequences.pick(members.reshape(-1)), place), pairs)
            if number < len(mine):
                out[part] = logits.float().cpu().numpy()
    return processes.total(out).reshape(*examples.members.shape[:2], 3)
