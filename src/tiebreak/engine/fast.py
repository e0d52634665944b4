"""Where a CPU's own fast paths are put in, if there are any for the model."""

from __future__ import annotations

import torch

from tiebreak.engine.pooled import Pooled
from tiebreak.errors import UsageError


def speed_up(pooled: Pooled, precision: str, device: torch.device) -> list[str]:
    """Put in what makes this model fast on this device.

    Returns:
        Fallbacks: what could not be put in and why, a line each.

    Raises:
        UsageError: int8 where no int8 path exists.
    """
    if precision == "int8":
        raise UsageError(f"precision int8 on {device}", expected="fp32, bf16 or fp16", mend="--precision auto")
    return []
