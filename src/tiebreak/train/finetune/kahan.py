"""AdamW on bfloat16 weights that still learn from updates too small for bfloat16."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import torch
from torch import Tensor

COARSEST_DECAY: Final = 2**-7
"""A bf16 number has 8 bits: what it loses in a step below this share of itself is rounded away."""

CHUNK: Final = 1 << 22
"""Elements updated at a time, so that the float32 arithmetic needs no float32 copy of an embedding matrix."""


class KahanAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) for bf16 weights, with Kahan summation.

    bf16 keeps 8 bits, so a weight cannot take an update below about 1/512 of itself: fine-tuning at a rate of 1e-6
    stands still. Here what rounding drops is kept in a second bf16 number and added to the next update (Zamirai et al.
    2020, arXiv 2010.06192; AnyPrecisionAdamW of torchdistx and optimi go the same way). The arithmetic of a step is
    float32; what is kept of a weight is itself, the remainder and the two moments, 8 bytes (10 with a slow second
    moment) where float32 AdamW keeps 12. Parameters of other types take the plain update with moments of their type.

    The second moment is bf16 where it forgets at least `COARSEST_DECAY` of itself a step (betas[1] = .99), else float32
    (.999): a bf16 one could not fall.

    Works on FSDP2's sharded parameters: each process updates its part.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        betas: Decay of the first and of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled; it goes through the same summation.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            _begin(state, parameter, group["betas"][1])
        state["step"] += 1
        count = int(state["step"])
        names = ["exp_avg", "exp_avg_sq", *(["remainder"] if "remainder" in state else [])]
        for weight, gradient, *moments in _pieces(parameter, parameter.grad, *(state[name] for name in names)):
            _move(weight, gradient, moments, count, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state, bit by bit: torch would bring every state to the type of its parameter."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for key, parameter in zip(saved, own, strict=True):
            if key in state_dict["state"]:
                exact = state_dict["state"][key]["exp_avg_sq"]
                self.state[parameter]["exp_avg_sq"] = exact.detach().clone().to(parameter.device)


def _begin(state: dict[str, Any], parameter: Tensor, decay: float) -> None:
    slow = parameter.dtype == torch.bfloat16 and 1 - decay < COARSEST_DECAY
    state["step"] = torch.tensor(0.0)
    state["exp_avg"] = torch.zeros_like(parameter)
    state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.float32 if slow else None)
    if parameter.dtype == torch.bfloat16:
        state["remainder"] = torch.zeros_like(parameter)


def _pieces(*tensors: Any) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same elements of each tensor, a chunk at a time; of a sharded tensor, this process's part."""
    local = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    if all(tensor.is_contiguous() for tensor in local):
        yield from zip(*(tensor.view(-1).split(CHUNK) for tensor in local), strict=True)
    else:
        yield tuple(local)


def _move(weight: Tensor, gradient: Tensor, moments: list[Tensor], count: int, group: dict[str, Any]) -> None:
    first, second = group["betas"]
    mean, square, *remainder = moments
    exact = gradient.float()
    mean32 = mean.float().lerp(exact, 1 - first)
    square32 = (square.float() * second).addcmul_(exact, exact, value=1 - second)
    mean.copy_(mean32)
    square.copy_(square32)
    spread = square32.sqrt_().div_(math.sqrt(1 - second**count)).add_(group["eps"])
    weight32 = weight.float()
    change = mean32.div_(spread).mul_(-group["lr"] / (1 - first**count))
    change.add_(weight32, alpha=-group["lr"] * group["weight_decay"])
    if not remainder:
        weight.copy_(weight32 + change)
        return
    total = change.add_(remainder[0]).add_(weight32)
    weight.copy_(total)
    remainder[0].copy_(total.sub_(weight))
