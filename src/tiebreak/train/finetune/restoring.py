"""The state of an optimiser, a schedule and a loss scale as tensors and JSON, and back, bit for bit."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def whole(tensor: Tensor) -> Tensor:
    """The full tensor on the CPU, out of whatever it is sharded or shared with. Called in every process."""
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.detach().to("cpu", copy=True).contiguous()


def parameters(optimiser: Optimizer) -> list[Tensor]:
    """All parameters, in the order of the groups."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def optimiser_state(optimiser: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimiser: tensors by "parameter.name", and the numbers and groups as JSON.

    `state_dict` is not used: loading one casts what it holds to the type of the parameter, which loses bits of
    everything that is kept more precisely.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, parameter in enumerate(parameters(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = whole(value)
            else:
                numbers[f"{index}.{name}"] = value
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    return tensors, {"numbers": numbers, "groups": groups}


def restore_optimiser(optimiser: Optimizer, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
    """Bring the state back into an optimiser over the same parameters."""
    known = parameters(optimiser)
    for key, value in {**tensors, **counters["numbers"]}.items():
        index, _, name = key.partition(".")
        parameter = known[int(index)]
        placed = _like(optimiser, parameter, name, value) if isinstance(value, Tensor) else value
        optimiser.state[parameter][name] = placed
    for group, saved in zip(optimiser.param_groups, counters["groups"], strict=True):
        group.update({key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()})


def _like(optimiser: Any, parameter: Tensor, name: str, value: Tensor) -> Tensor:
    """Put a tensor where its parameter is, sharded as that is; torch keeps the count of steps on the CPU."""
    if name == "step":
        return value
    if name in {"state1", "state2"} and parameter.is_cuda and getattr(optimiser, "is_paged", False):
        paged: Tensor = optimiser.get_state_buffer(parameter, dtype=value.dtype)
        return paged.copy_(value)
    return placed(value, parameter)


def placed(value: Tensor, model: Tensor) -> Tensor:
    """A whole tensor where another one is, sharded as that is. Called in every process."""
    value = value.to(model.device)
    if hasattr(model, "device_mesh") and value.shape == model.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, model.device_mesh, model.placements)  # type: ignore[attr-defined]
    return value


def counters(optimiser: dict[str, Any], schedule: Any, scaler: Any) -> dict[str, Any]:
    """What is kept as JSON beside the tensors."""
    kept = {key: value for key, value in schedule.state_dict().items() if key != "lr_lambdas"}
    return {"optimiser": optimiser, "schedule": kept, "scaler": None if scaler is None else scaler.state_dict()}


def restore_counters(saved: dict[str, Any], schedule: Any, scaler: Any) -> None:
    """Bring the schedule and the loss scale back."""
    schedule.load_state_dict({**schedule.state_dict(), **saved["schedule"]})
    if scaler is not None and saved["scaler"]:
        scaler.load_state_dict(saved["scaler"])


def unwrapped(optimiser: Any) -> Optimizer:
    """The optimiser inside accelerate's wrapper."""
    while hasattr(optimiser, "optimizer"):
        optimiser = optimiser.optimizer
    found: Optimizer = optimiser
    return found
