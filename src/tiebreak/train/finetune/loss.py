"""One cross-entropy for hard and soft labels, with row weights and label smoothing."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """The weighted sum of the cross-entropies of some rows.

    A mean over the rows of a step is had by weights that sum to 1 over the step: then micro-batches, accumulation and
    processes can be cut anyhow, and their sums add up to the same loss and the same gradient.

    Args:
        logits: Shape (rows, 3), order a, b, tie.
        targets: Probabilities of shape (rows, 3); a hard label is a one-hot row.
        weights: Shape (rows,).
        smoothing: Share of the target's mass that is spread evenly over the classes (Szegedy et al. 2016,
            arXiv 1512.00567).

    Returns:
        A scalar in float32.
    """
    spread = targets.float() * (1 - smoothing) + smoothing / targets.shape[1]
    rows = -(spread * torch.log_softmax(logits.float(), dim=1)).sum(dim=1)
    return (rows * weights.float()).sum()
