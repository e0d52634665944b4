"""Adapters of one base averaged: factor by factor, product by product, and the best product of lower rank.

A judge of fold i changes a weight by D_i = s_i B_i A_i. What averaging the judges' weights means is the mean of the
products, sum w_i D_i (`exact`). Averaging the factors apart (`tensors`: BlackPearl, LMSYS 1st place) is the product of
two means, which differs from it by the weighted covariance of the factors,

    exact - tensors = 1/2 sum_ij w_i w_j s (B_i - B_j)(A_i - A_j),

so it is close where the folds stayed near a common start and far where they went their own ways (peft PR 3013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiebreak.combine.adapter import Adapter, Factors, configured
from tiebreak.errors import DataError


@dataclass(frozen=True)
class Relative:
    """How far one change of the weights is from another: Frobenius norm of the difference over that of the exact mean.

    Attributes:
        modules: By module.
        overall: All modules as one vector.
    """

    modules: dict[str, float]
    overall: float

    @classmethod
    def of(cls, squares: Mapping[str, tuple[float, float]]) -> Relative:
        """From the squared norms of difference and exact mean of each module."""
        above, below = (sum(pair[side] for pair in squares.values()) for side in (0, 1))
        return cls({name: _quotient(*pair) for name, pair in squares.items()}, _quotient(above, below))


def tensors(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """A and B averaged separately, as BlackPearl did. The rank stays.

    Where scales differ they are folded into B before.

    Args:
        adapters: Of the same modules.
        weights: One an adapter, sum 1.

    Raises:
        DataError: Their ranks differ.
    """
    if reason := no_tensors(adapters):
        raise DataError(reason, expected="adapters of one rank", mend="--method exact")

    def mean(name: str) -> Factors:
        parts = [one.factors[name] for one in adapters]
        scale = parts[0].scale
        return Factors(
            _mean([part.a for part in parts], weights),
            _mean([part.b.double() * (part.scale / scale) for part in parts], weights),
            scale,
        )

    return _made(adapters, weights, mean)


def no_tensors(adapters: Sequence[Adapter]) -> str | None:
    """Why the factors of these adapters cannot be averaged apart; None where they can."""
    for name in adapters[0].factors:
        ranks = [one.factors[name].rank for one in adapters]
        if len(set(ranks)) > 1:
            return f"{name} has ranks {', '.join(map(str, ranks))}: factors of different ranks have no mean"
    return None


def exact(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """The mean of the products: A stacked, B side by side with weights and scales folded in. Ranks add up.

    Args:
        adapters: Of the same modules; ranks and scales may differ.
        weights: One an adapter, sum 1.
    """
    return _made(adapters, weights, lambda name: _stacked([one.factors[name] for one in adapters], weights))


def svd(mean: Adapter, rank: int) -> tuple[Adapter, Relative]:
    """The nearest adapter of lower rank: truncated singular value decomposition of each product (Eckart and Young).

    The product itself is never formed: its singular values are those of the small matrix between the orthonormal bases
    of both factors. Both factors get the square roots of the singular values; signs are such that the largest entry of
    each row of A is positive, so that the same product gives the same bytes.

    Args:
        mean: An adapter, as `exact` gives it.
        rank: At most this rank in every module.

    Returns:
        The adapter, and what was cut off relative to `mean`.
    """
    factors, squares = {}, {}
    for name, one in mean.factors.items():
        factors[name], squares[name] = _truncated(one, rank)
    return Adapter(factors, mean.kept, configured(mean.document, factors)), Relative.of(squares)


def interference(adapters: Sequence[Adapter], weights: Sequence[float]) -> Relative:
    """The cross terms of `tensors`: how far the product of the means is from the mean of the products.

    Raises:
        DataError: Ranks differ.
    """
    apart, together = tensors(adapters, weights), exact(adapters, weights)
    squares = {
        name: (_square(_difference(apart.factors[name], one)), _square(one)) for name, one in together.factors.items()
    }
    return Relative.of(squares)


def _made(adapters: Sequence[Adapter], weights: Sequence[float], mean: Callable[[str], Factors]) -> Adapter:
    first = adapters[0]
    factors = {name: mean(name) for name in first.factors}
    kept = {
        name: _mean([one.kept[name] for one in adapters], weights).to(tensor.dtype)
        for name, tensor in first.kept.items()
    }
    unchanged = all(
        (one.rank, one.scale) == (old.rank, old.scale)
        for one, old in zip(factors.values(), first.factors.values(), strict=True)
    )
    return Adapter(factors, kept, dict(first.document) if unchanged else configured(first.document, factors))


def _mean(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Summed in float64, so that the mean of equal tensors is that tensor and the order does not show."""
    total = torch.zeros(parts[0].shape, dtype=torch.float64)
    for part, weight in zip(parts, weights, strict=True):
        total += weight * part.double()
    return total.float()


def _stacked(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    scaled = [(weight * part.scale) * part.b.double() for part, weight in zip(parts, weights, strict=True)]
    return Factors(torch.cat([part.a for part in parts]), torch.cat(scaled, dim=1).float(), 1.0)


def _truncated(one: Factors, rank: int) -> tuple[Factors, tuple[float, float]]:
    left, upper = torch.linalg.qr(one.scale * one.b.double())
    right, lower = torch.linalg.qr(one.a.double().T)
    u, values, v = torch.linalg.svd(upper @ lower.T)
    kept = min(rank, len(values))
    root = values[:kept].sqrt()
    a = root[:, None] * (v[:kept] @ right.T)
    b = (left @ u[:, :kept]) * root
    signs = torch.where(a.gather(1, a.abs().argmax(dim=1, keepdim=True)) < 0, -1.0, 1.0)
    cut, whole = (float((part**2).sum()) for part in (values[kept:], values))
    return Factors((a * signs).float(), (b * signs.T).float(), 1.0), (cut, whole)


def _difference(one: Factors, other: Factors) -> Factors:
    """`one - other` as a product."""
    b = torch.cat([one.scale * one.b.double(), -other.scale * other.b.double()], dim=1)
    return Factors(torch.cat([one.a, other.a]).double(), b, 1.0)


def _square(one: Factors) -> float:
    """Squared Frobenius norm of a product, without forming it."""
    a, b = one.a.double(), one.b.double()
    return max(float(((b.T @ b) * (a @ a.T)).sum()) * one.scale**2, 0.0)


def _quotient(above: float, below: float) -> float:
    return (above / below) ** 0.5 if below > 0 else 0.0
