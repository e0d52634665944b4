"""Several processes that train one model together, under torchrun; a single process needs none of this."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET: Final = 1 << 26


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, and part at the end. Nothing happens without torchrun."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Gloo carries the few figures that are exchanged on the CPU, NCCL the tensors of the devices.
    # The first process writes bundles and scores held-out votes by itself, which may take it hours.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(hours=12))
    try:
        yield
    finally:
        dist.destroy_process_group()


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this process writes and speaks for all."""
    return rank() == 0


def idle() -> list[str]:
    """A note when GPUs of this machine are not used."""
    there = torch.cuda.device_count()
    if there <= 1 or world() > 1:
        return []
    return [f"one of {there} GPUs is used; torchrun --nproc-per-node {there} -m tiebreak train ... uses all"]


def barrier() -> None:
    """Wait for the others."""
    if dist.is_initialized():
        total(np.zeros(1))


def total(values: np.ndarray) -> np.ndarray:
    """The sum of an array over all processes, in float64."""
    if not dist.is_initialized():
        return values
    summed = torch.from_numpy(np.array(values, dtype=np.float64))
    dist.all_reduce(summed)
    result: np.ndarray = summed.numpy()
    return result


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return bool(total(np.array([float(flag)]))[0])


def from_first(number: int) -> int:
    """The number that the first process has."""
    return int(total(np.array([float(number) if first() else 0.0]))[0])


def sum_gradients(model: nn.Module) -> None:
    """Add up the gradients of all processes, once a step.

    Weights of the rows sum to 1 over all processes, so the sum is the mean over the rows of the step. Doing it once,
    after the last micro-batch, lets processes have any number of micro-batches.
    """
    if not dist.is_initialized():
        return
    for gradients in _buckets(model):
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(model: nn.Module) -> Iterator[list[Tensor]]:
    """Gradients of one type, together about `BUCKET` elements, so that the copy that is sent stays small."""
    held: list[Tensor] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = gradient
        if held and (held[0].dtype != gradient.dtype or sum(map(Tensor.numel, held)) >= BUCKET):
            yield held
            held = []
        held.append(gradient)
    if held:
        yield held


def same_everywhere(model: nn.Module) -> None:
    """Give every process the trainable weights of the first."""
    if dist.is_initialized():
        for parameter in model.parameters():
            if parameter.requires_grad:
                dist.broadcast(parameter.data, src=0)
