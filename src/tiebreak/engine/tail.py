"""The last layer's MLP for the tokens whose states are read, and for no other: nothing after it needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor, nn

from tiebreak.engine.cpu.speed import FAMILIES

_READ: Final[ContextVar[Tensor | None]] = ContextVar("read", default=None)
"""Rows of the packed batch whose last states are read; of this thread, since micro-batches run side by side."""


@contextmanager
def reading(rows: Tensor) -> Iterator[None]:
    """Within, only these rows of the last hidden states are right.

    Args:
        rows: int64 (n,), positions in the packed batch.
    """
    token = _READ.set(rows)
    try:
        yield
    finally:
        _READ.reset(token)


class Tail(nn.Module):
    """An MLP of the last layer that leaves out the rows that nobody reads."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, states: Tensor) -> Tensor:
        """(1, T, hidden) to the same shape, zero where nothing is read."""
        rows = _READ.get()
        if rows is None:
            whole: Tensor = self.mlp(states)
            return whole
        rows = rows.to(states.device, non_blocking=True)
        out = torch.zeros_like(states)
        out[:, rows] = self.mlp(states[:, rows])
        return out


def install(backbone: Any) -> None:
    """Put a `Tail` into the last layer of a decoder, for inference; other families stay as they are."""
    if getattr(backbone.config, "model_type", "") in FAMILIES and not isinstance(backbone.layers[-1].mlp, Tail):
        backbone.layers[-1].mlp = Tail(backbone.layers[-1].mlp)
