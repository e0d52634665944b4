"""Layers split over several devices, several micro-batches in flight (first place of the LMSYS contest ran so).

The model's own forward runs, once for each micro-batch, in a thread of its own. Hooks do the rest: at the first layer
of a stage a micro-batch waits until the one before has left that stage, and what the layer needs is copied to the
stage's device. On GPUs every step is only queued, so nothing waits for a result until the logits are collected.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tiebreak.engine import machine
from tiebreak.engine.packed import Packed
from tiebreak.engine.pooled import Pooled
from tiebreak.errors import UsageError

LAST = ("norm", "final_norm", "pooler")
"""Parts of a backbone that come after its layers; all others come before them."""


def layers(backbone: Any) -> nn.ModuleList:
    """The layers of a backbone, in order.

    Raises:
        UsageError: They are not where every family that we know keeps them.
    """
    for holder, name in ((backbone, "layers"), (getattr(backbone, "encoder", None), "layer")):
        found = getattr(holder, name, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise UsageError(f"the layers of {type(backbone).__name__} cannot be split", expected="one device")


def split(sizes: list[int], stages: int, *, before: int = 0, after: int = 0) -> list[int]:
    """Where each stage begins, so that the fullest holds as little as can be.

    Args:
        sizes: Bytes of each layer.
        stages: How many stages, each with one layer at least.
        before: Bytes of what comes before the layers (embeddings), on the first stage.
        after: Bytes of what comes after them (the head), on the last stage.

    Returns:
        The first layer of each stage, and the number of layers at the end.

    Raises:
        UsageError: There are more stages than layers.
    """
    n = len(sizes)
    if stages > n:
        raise UsageError(f"{n} layers cannot be split over {stages} devices", expected=f"{n} devices at most")
    total = [0]
    for size in sizes:
        total.append(total[-1] + size)
    # best[k]: the smallest fullest stage, and its bounds, of the first k layers over the stages so far
    best = {k: (total[k] + before, [0, k]) for k in range(1, n + 1)}
    for stage in range(2, stages + 1):
        extra = after if stage == stages else 0
        best = {
            k: min(
                (max(best[cut][0], total[k] - total[cut] + extra), [*best[cut][1], k]) for cut in best if cut < k
            )
            for k in range(stage, n + 1)
        }  # fmt: skip
    return best[n][1]


class Pipeline:
    """A `Pooled` whose layers lie on several devices.

    Args:
        pooled: The model; its parts are moved.
        devices: One a stage; the same one may be named several times.
    """

    def __init__(self, pooled: Pooled, devices: list[torch.device]) -> None:
        backbone = pooled.backbone
        stack = layers(backbone)
        after = [module for name, module in backbone.named_children() if name in LAST]
        sizes = [machine.size(layer) for layer in stack]
        last = sum(machine.size(module) for module in after) + machine.size(pooled.head)
        self.bounds = split(
            sizes,
            len(devices),
            before=machine.size(backbone) - sum(sizes) - last + machine.size(pooled.head),
            after=last,
        )
        self.devices = devices
        self._locks = [threading.Lock() for _ in devices]
        self._thread = threading.local()
        self._place(pooled, stack, after)

    def _place(self, pooled: Pooled, stack: nn.ModuleList, after: list[nn.Module]) -> None:
        stage_of = [s for s, (a, b) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)) for _ in range(a, b)]
        for child in pooled.backbone.children():
            if child is not stack and child not in after and stack not in child.modules():
                child.to(self.devices[0])
        for holder in pooled.backbone.children():
            if stack in holder.children():
                for child in holder.children():
                    if child is not stack:
                        child.to(self.devices[0])
        for i, layer in enumerate(stack):
            layer.to(self.devices[stage_of[i]])
            layer.register_forward_pre_hook(self._entering(stage_of[i]), with_kwargs=True)
        for module in [*after, pooled.head]:
            module.to(self.devices[-1])
            module.register_forward_pre_hook(self._entering(len(self.devices) - 1), with_kwargs=True)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold this around one forward pass: enters the first stage, leaves the last."""
        self._locks[0].acquire()
        self._thread.stage, self._thread.held, self._thread.copies = 0, True, {}
        try:
            yield
        finally:
            self._thread.copies = {}
            if self._thread.held:
                self._locks[self._thread.stage].release()

    def _pass_on(self, stage: int) -> None:
        """Leave the present stage, then wait for the next: the one behind need not wait with us."""
        thread = self._thread
        self._locks[thread.stage].release()
        thread.held = False
        self._locks[stage].acquire()
        thread.stage, thread.held = stage, True

    def _entering(self, stage: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if self._thread.stage < stage:
                self._pass_on(stage)
            here = self.devices[stage]
            return tuple(self._moved(a, here) for a in args), {k: self._moved(v, here) for k, v in kwargs.items()}

        return hook

    def _moved(self, value: Any, device: torch.device) -> Any:
        """A value on a device; each tensor of a micro-batch is copied to a device once, not for every layer."""
        if isinstance(value, tuple | list):
            return type(value)(self._moved(item, device) for item in value)
        if isinstance(value, dict):
            return {name: self._moved(item, device) for name, item in value.items()}
        if isinstance(value, Packed):
            if value.input_ids.device == device:
                return value
        elif not isinstance(value, Tensor) or value.device == device:
            return value
        copies = self._thread.copies
        key = (id(value), device)
        if key not in copies:  # the original is kept beside its copy, so that no other tensor can take its id
            copies[key] = (value, value.to(device, non_blocking=True))
        return copies[key][1]
