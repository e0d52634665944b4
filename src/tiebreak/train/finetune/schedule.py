"""How the learning rate goes: a linear warm-up, then constant, linear or cosine down to a share of the peak."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tiebreak.train.finetune.recipe import Optimiser


def warmup_steps(recipe: Optimiser, steps: int) -> int:
    """Steps of the warm-up; a number below 1 is a share of all steps."""
    return math.ceil(recipe.warmup * steps) if recipe.warmup < 1 else int(recipe.warmup)


def share(recipe: Optimiser, step: int, steps: int) -> float:
    """The share of the peak rate in the step after `step` steps: above 0 in each, `final_lr` after the last."""
    warmup = warmup_steps(recipe, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return 1.0
    gone = min(1.0, (step - warmup) / max(1, steps - warmup))
    left = 1 - gone if recipe.schedule == "linear" else (1 + math.cos(math.pi * gone)) / 2
    return recipe.final_lr + (1 - recipe.final_lr) * left


def schedule(optimiser: Optimizer, recipe: Optimiser, steps: int) -> LambdaLR:
    """The schedule for every parameter group alike."""
    return LambdaLR(optimiser, lambda step: share(recipe, step, steps))
