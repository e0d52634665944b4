"""The layers between the backbone and the logits, under the names that each family gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from tiebreak.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAST: Final = ("score", "classifier")
"""Name of the layer that gives the logits: decoders say score, encoders classifier."""


class TwoLayer(nn.Sequential):
    """Dropout, half the width, dropout, GELU, logits; initialised as torch does (tascj's human_pref, LMSYS 2nd place).

    A Sequential, so that its weights are called `score.1.*` and `score.4.*` as in checkpoints of that solution.

    Args:
        hidden: Width of the pooled state.
        outputs: Number of logits.
        dropout: Of both dropouts.
    """

    def __init__(self, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden // 2),
            nn.Dropout(dropout),
            nn.GELU(),
            nn.Linear(hidden // 2, outputs),
        )


def last(model: PreTrainedModel) -> str:
    """Name of the attribute that holds the layer that gives the logits.

    Raises:
        DataError: The family names it otherwise.
    """
    for name in LAST:
        if isinstance(getattr(model, name, None), nn.Module):
            return name
    raise DataError(
        f"{type(model).__name__} has no classification layer under a known name",
        expected=f"a model of AutoModelForSequenceClassification with {' or '.join(LAST)}",
    )


def parts(model: PreTrainedModel) -> list[str]:
    """Names of the modules between backbone and logits: they are trained and kept in full beside an adapter.

    BERT's pooler lies inside its backbone, yet it is part of the way from the pooled state to the logits.
    """
    prefix = model.base_model_prefix
    found = [
        name for name, module in model.named_children() if name != prefix and any(True for _ in module.parameters())
    ]
    inside = getattr(model, prefix)
    if isinstance(getattr(inside, "pooler", None), nn.Module):
        found.append(f"{prefix}.pooler")
    return sorted(found)


def zero(module: nn.Module) -> None:
    """Set the weights that give the logits to zero: those of the last linear layer, or of a siamese head's two."""
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    final = [layer for layer in linear if layer.out_features == 1] or linear[-1:]
    with torch.no_grad():
        for layer in final:
            layer.weight.zero_()
            if layer.bias is not None:
                layer.bias.zero_()


def keep_precise(model: PreTrainedModel) -> None:
    """Hold the head in fp32: it is small, its learning rate is high, and logits are reported in fp32 anyway.

    BERT calls its pooler itself, in the precision of the backbone, so that one stays as it is.
    """
    for name in parts(model):
        if not name.startswith(f"{model.base_model_prefix}."):
            model.get_submodule(name).to(torch.float32)
