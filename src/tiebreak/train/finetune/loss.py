"""What is minimised: cross-entropy with the votes, and for each teacher a KL and a cosine term, by presets or weights.

    row   = (w_ce CE(y, s) + sum over teachers k heard of (w_kl T^2 KL(t_k || s) + w_cos (1 - cos(t_k, s)))) / divisor
    total = sum over rows of weight * row

y is the vote (hard or soft), s the student's probabilities, t_k a teacher's; KL compares both at temperature T, all
else is at 1. The divisor is the sum of the weights of the terms that are in the row, so that a row's loss is a
weighted mean of its terms however many teachers there are. A teacher that contradicts the vote in a row (`conflict`) is
not heard there: its terms leave the sum and the divisor of that row.

The direction of the KL is that of the first place of LMSYS 2024 (BlackPearl): the teacher is the target, as in
`torch.nn.KLDivLoss(reduction="batchmean")(log s, t)`. The cosine term is `torch.nn.CosineEmbeddingLoss` with target 1
between the two probability vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tiebreak.train.finetune.recipe import Loss
from tiebreak.train.finetune.terms import Terms, terms

__all__ = ["Terms", "cross_entropy", "loss", "terms"]


def loss(logits: Tensor, targets: Tensor, weights: Tensor, settings: Loss, teachers: Tensor | None = None) -> Tensor:
    """The weighted sum of the losses of some rows.

    A mean over the rows of a step is had by weights that sum to 1 over the step: then micro-batches, accumulation and
    processes can be cut anyhow, and their sums add up to the same loss and the same gradient.

    Args:
        logits: Shape (rows, 3), order a, b, tie.
        targets: Probabilities of shape (rows, 3); a hard label is a one-hot row.
        weights: Shape (rows,).
        settings: The recipe's loss.
        teachers: Probabilities of shape (rows, teachers, 3); None, or 0 teachers, for none.

    Returns:
        A scalar in float32.
    """
    count = 0 if teachers is None else teachers.shape[1]
    chosen = terms(settings, count)
    log_p = torch.log_softmax(logits.float(), dim=1)
    votes = chosen.cross_entropy * _cross_entropy(log_p, targets.float(), settings.smoothing, settings.focal)
    if teachers is None or not count or not chosen.taught:
        # Nothing but the cross-entropy is in the row; a weight of 0 leaves nothing to divide.
        rows = votes / (chosen.cross_entropy or 1.0)
    else:
        p = teachers.float()
        heard = _heard(p, targets.float(), chosen.conflict)
        taught = (heard * _from_teachers(logits.float(), log_p, p, chosen)).sum(dim=1)
        divisor = chosen.cross_entropy + (chosen.kl + chosen.cosine) * heard.sum(dim=1)
        rows = (votes + taught) / torch.where(divisor > 0, divisor, 1.0)
    return (rows * weights.float()).sum()


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """`loss` without teachers: the weighted sum of the cross-entropies of some rows.

    Args:
        logits: Shape (rows, 3), order a, b, tie.
        targets: Probabilities of shape (rows, 3).
        weights: Shape (rows,).
        smoothing: Share of the target's mass that is spread evenly over the classes (Szegedy et al. 2016,
            arXiv 1512.00567).
    """
    return loss(logits, targets, weights, Loss(smoothing=smoothing))


def _cross_entropy(log_p: Tensor, targets: Tensor, smoothing: float, focal: float) -> Tensor:
    spread = targets * (1 - smoothing) + smoothing / targets.shape[1]
    rows = -(spread * log_p).sum(dim=1)
    if not focal:
        return rows
    # 1 - p_y as the mass on the other classes, which does not cancel where p_y is nearly 1.
    missed = ((1 - targets) * log_p.exp()).sum(dim=1)
    return rows * missed.clamp_min(torch.finfo(torch.float32).tiny) ** focal


def _heard(teachers: Tensor, targets: Tensor, threshold: float | None) -> Tensor:
    """1 where a teacher is heard, else 0; shape (rows, teachers).

    What a teacher gives a soft vote is the probability that a draw from the one is a draw from the other.
    """
    if threshold is None:
        return torch.ones_like(teachers[..., 0])
    a, b, tie = (teachers * targets[:, None]).unbind(dim=2)
    return (a + b + tie >= threshold).float()  # in this order: swapping a and b changes no bit


def _from_teachers(logits: Tensor, log_p: Tensor, teachers: Tensor, chosen: Terms) -> Tensor:
    """The weighted KL and cosine terms of each teacher, shape (rows, teachers)."""
    found = torch.zeros_like(teachers[..., 0])
    if chosen.kl:
        t = chosen.temperature
        log_s = torch.log_softmax(logits / t, dim=1)[:, None]
        target = teachers if t == 1 else torch.softmax(teachers.log() / t, dim=2)
        found = found + chosen.kl * t**2 * (torch.xlogy(target, target) - target * log_s).sum(dim=2)
    if chosen.cosine:
        near = torch.cosine_similarity(log_p.exp()[:, None], teachers, dim=2)
        found = found + chosen.cosine * (1 - near)
    return found
