"""The optimisers of a recipe, and how their learning rates go up and down."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from typing import Any

import torch

from tiebreak.errors import MissingExtraError
from tiebreak.judges.base.quiet import quiet
from tiebreak.train.finetune.kahan import KahanAdamW
from tiebreak.train.finetune.recipe import Optimiser, moments


def build(groups: Iterable[dict[str, Any]], chosen: Optimiser) -> torch.optim.Optimizer:
    """The optimiser of a recipe over groups of parameters.

    Args:
        groups: From `modelling.parameter_groups`: `params`, and their own `lr` and `weight_decay`.
        chosen: The optimiser's part of the recipe.

    Raises:
        MissingExtraError: It is one of bitsandbytes, which is not installed.
    """
    options: dict[str, Any] = {"lr": chosen.lr, "betas": chosen.betas, "eps": chosen.eps}
    parts = list(groups)
    if chosen.name == "adamw":
        return torch.optim.AdamW(parts, fused=True, weight_decay=chosen.weight_decay, **options)
    if chosen.name == "kahan_adamw":
        return KahanAdamW(parts, weight_decay=chosen.weight_decay, **options)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "llm", f"the optimiser {chosen.name}")
    with quiet():
        from bitsandbytes import optim

    kind = optim.PagedAdamW8bit if chosen.name == "paged_adamw_8bit" else optim.AdamW8bit
    made: torch.optim.Optimizer = kind(parts, weight_decay=chosen.weight_decay, **options)
    return made


def factor(chosen: Optimiser, step: int, total: int) -> float:
    """Share of the peak rate that a step is taken with.

    The warm-up rises in a straight line from 1 / (w + 1), so that no step is lost, and reaches the peak at step w. From
    there linear and cosine fall so that the step after the last would have `final_lr`.

    Args:
        chosen: The optimiser's part of the recipe.
        step: Steps taken before, from 0.
        total: Steps of the whole training.
    """
    warmup = moments(chosen.warmup, total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if chosen.schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    shape = 1 - progress if chosen.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return chosen.final_lr + (1 - chosen.final_lr) * shape


def scheduler(optimiser: torch.optim.Optimizer, chosen: Optimiser, total: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Sets the rate of every group to its peak times `factor`; call its `step` after each of the optimiser's."""
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: factor(chosen, step, total))
