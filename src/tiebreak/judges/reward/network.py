"""The network of a reward judge: a sequence classifier with one output, as it was published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from tiebreak.engine.pooled import Pooled
from tiebreak.errors import DataError
from tiebreak.judges.base import Base
from tiebreak.judges.base.loading import load
from tiebreak.judges.finetuned import loading
from tiebreak.judges.runtime import Runtime

if TYPE_CHECKING:
    from tiebreak.judges.reward.judge import Settings


class RewardModel(nn.Module):
    """A reward model, ready for the engine.

    Args:
        pooled: Backbone, pooling, and the layer that gives the score.
    """

    def __init__(self, pooled: Pooled) -> None:
        super().__init__()
        self.pooled = pooled


def restore(settings: Settings, base: Base, runtime: Runtime) -> RewardModel:
    """Read a reward model.

    Args:
        settings: What the bundle says.
        base: Where the weights are.
        runtime: Precision and devices.

    Raises:
        DataError: The layer that gives the score is not in the checkpoint.
    """
    dtype, device = loading.places(settings, runtime)
    model, fresh = load(
        base, None, outputs=1, dtype=dtype, quantize=settings.quantize, soft_capping=settings.soft_capping,
        device=device,
    )  # fmt: skip
    if fresh:
        raise DataError(
            f"base {base.name!r}: {len(fresh)} weights of the score are not in the checkpoint (first: {min(fresh)})",
            expected="a sequence classifier with one output",
        )
    pooled = Pooled.split(model.eval())
    if settings.pooling is not None:
        pooled.pooling = settings.pooling
    return RewardModel(pooled)
