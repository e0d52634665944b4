"""From two states to three logits, so that changing sides changes a with b and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PairHead(nn.Module):
    """Logits of a comparison from the states of its two answers: (d / 2, -d / 2, t).

    d = s(a) - s(b) is a difference of scores, so it is antisymmetric to the last bit, and the score alone ranks any
    number of answers to one prompt (Bradley and Terry). t is a linear function of the product, the distance and the
    sum of both states, none of which knows which answer came first (a tie parameter that sees the texts, after
    Rao and Kupper).

    Args:
        hidden: Width of a state.
        width: Width of the layer before; None compares the states as they are.
        dropout: Of its two dropouts.

    Attributes:
        hidden: As given.
    """

    def __init__(self, hidden: int, width: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.project: nn.Module = nn.Identity()
        if width is not None:
            self.project = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout), nn.GELU()
            )  # fmt: skip
        self.worth = nn.Linear(width or hidden, 1, bias=False)
        self.tie = nn.Linear(3 * (width or hidden), 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (m, 3) from the states (m, hidden) of the first and the second answer."""
        return self.compare(self.project(a.float()), self.project(b.float()))

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits (m, 3) from projected states (m, width)."""
        half = (self.scores(a) - self.scores(b)) / 2
        tie = self.tie(torch.cat([a * b, (a - b).abs(), a + b], dim=1)).squeeze(1)
        return torch.stack([half, -half, tie], dim=1)

    def scores(self, projected: Tensor) -> Tensor:
        """(n,): what each answer is worth by itself, on the scale of log-odds between two answers to one prompt."""
        column: Tensor = self.worth(projected)
        return column.squeeze(1)
