"""From a finished training to the judge that is saved."""

from __future__ import annotations

from typing import Any

from tiebreak.judges import Judge
from tiebreak.train.finetune.fit import Fitted
from tiebreak.train.finetune.folding import Part
from tiebreak.train.finetune.recipe import Recipe


def judge(part: Part, recipe: Recipe, fitted: Fitted) -> Judge:
    """The judge with the weights of the best step, with its training data, figures and card."""
    raise NotImplementedError
