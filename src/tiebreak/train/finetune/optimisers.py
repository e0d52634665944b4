"""The optimisers of a recipe; `schedule` says how their learning rates go up and down."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

import torch

from tiebreak.errors import MissingExtraError
from tiebreak.judges.base.quiet import quiet
from tiebreak.train.finetune.kahan import KahanAdamW
from tiebreak.train.finetune.recipe import Optimiser


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

    # Pages move between a GPU and its host: on a CPU there is nothing to move.
    on_gpu = any(parameter.is_cuda for part in parts for parameter in part["params"])
    kind: Any = getattr(optim, "PagedAdamW8bit" if chosen.name == "paged_adamw_8bit" and on_gpu else "AdamW8bit")
    made: torch.optim.Optimizer = kind(parts, weight_decay=chosen.weight_decay, **options)
    return made
