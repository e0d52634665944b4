"""Layers split over the processes of torchrun: one stage a process, hidden states sent from rank to rank.

Every rank runs the model's own forward over the same micro-batches in the same order. Layers of other ranks are taken
out; before its first layer a rank receives the states of the rank below, after its last one it sends its own and goes
on with the next micro-batch at once, so that all ranks are busy. Works over gloo (CPU) and NCCL (GPU), on one node or
several.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tiebreak.engine import machine
from tiebreak.engine.pipeline import layers, split
from tiebreak.engine.pooled import Pooled
from tiebreak.errors import UsageError

UNSENT: Final = 4
"""Micro-batches a rank may be ahead of the next one."""


class Elsewhere(nn.Module):
    """A layer that another rank computes."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """The states as they came."""
        return hidden_states


class Relay:
    """One rank's stage of a `Pooled`, whose foreign layers are taken out and whose embedding, past rank 0, is too.

    Args:
        pooled: The whole model; every rank has the same.
        device: Where this rank computes.

    Raises:
        UsageError: No process group, or a family whose layers do not map states to states.
    """

    def __init__(self, pooled: Pooled, device: torch.device) -> None:
        if not dist.is_initialized():
            raise UsageError(
                "devices 'ranks' without a process group", expected="processes started by torchrun",
                mend="torchrun --nproc-per-node 2 -m tiebreak ...",
            )  # fmt: skip
        if not pooled.causal:
            raise UsageError(f"{type(pooled.backbone).__name__} over ranks", expected="a causal model")
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._width = pooled.backbone.get_input_embeddings().embedding_dim  # type: ignore[operator]
        self._device = device
        self._sent: deque[tuple[Any, Tensor]] = deque()
        stack = layers(pooled.backbone)
        sizes = [machine.size(layer) for layer in stack]
        self.bounds = split(
            sizes, self.world, before=machine.size(pooled.backbone) - sum(sizes), after=machine.size(pooled.head)
        )
        first, end = self.bounds[self.rank], self.bounds[self.rank + 1]
        for i in range(len(stack)):
            if not first <= i < end:
                stack[i] = Elsewhere()
        if self.rank > 0:
            stack[first].register_forward_pre_hook(self._receive)
        if self.rank < self.world - 1:
            stack[end - 1].register_forward_hook(self._send)
        pooled.to(device)

    def _receive(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states = torch.empty_like(args[0])
        dist.recv(states, self.rank - 1)
        return (states, *args[1:])

    def _send(self, module: nn.Module, args: tuple[Any, ...], states: Tensor) -> None:
        states = states.contiguous()
        self._sent.append((dist.isend(states, self.rank + 1), states))
        while len(self._sent) > UNSENT:
            self._sent.popleft()[0].wait()

    def share(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the last rank, on every rank."""
        while self._sent:
            self._sent.popleft()[0].wait()
        shared = torch.from_numpy(rows).to(self._device)
        dist.broadcast(shared, self.world - 1)
        return shared.cpu().numpy()
