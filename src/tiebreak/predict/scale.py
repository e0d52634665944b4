"""How large a chunk, how many workers: what a run takes when nobody says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

import polars as pl

from tiebreak.bundle import Manifest
from tiebreak.errors import UsageError
from tiebreak.judges import Runtime, has_network
from tiebreak.predict import worker
from tiebreak.predict.parts import Parts, beside, recall
from tiebreak.predict.pool import weigh
from tiebreak.predict.run import CHUNK_ROWS, chunks
from tiebreak.predict.sharded import Plan

ENGINES: Final = ("local", "torchrun", "ray")
NETWORK_CHUNK_ROWS: Final = {"cpu": 64, "cuda": 512}
"""Rows of a chunk for a judge with a network: about a minute's work of a small model on a CPU, of a large one on a GPU.
A chunk is what a stop can lose, and what a worker cannot share with another."""


def gpus() -> int:
    """GPUs of this machine that torch can use; 0 without torch."""
    if find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()


def device_kind(devices: str) -> str:
    """`cuda` or `cpu`: what `--devices` comes down to here."""
    if devices == "auto":
        return "cuda" if gpus() else "cpu"
    return "cuda" if devices.startswith("cuda") else "cpu"


def chunk_rows(judge: Manifest, devices: str) -> int:
    """Rows of a chunk when nobody says: few enough that a stop loses at most about a minute."""
    return NETWORK_CHUNK_ROWS[device_kind(devices)] if has_network(judge) else CHUNK_ROWS


def decisive(judge: Manifest, runtime: Runtime) -> dict[str, object]:
    """The choices that can change a probability by more than 1e-5, and so belong to the identity of a run.

    Engine, workers, order of the chunks, `max_tokens` and the number of devices only change how sums are split; `base`
    says where a model lies whose digest is known. Precision `auto` depends on the kind of device.
    """
    if not has_network(judge):
        return {}
    precision = runtime.precision
    precision = f"auto on {device_kind(runtime.devices)}" if precision == "auto" else precision
    chosen: dict[str, object] = {"max_length": runtime.max_length, "precision": precision, "swap": runtime.swap}
    asked = {"backend": runtime.backend, "server": runtime.server}
    return chosen | {name: value for name, value in asked.items() if value is not None}


def workers(wanted: int | None, judge: Manifest, *, most: int | None = None) -> int:
    """The number of workers: the one asked for, else one for each GPU, else one.

    Args:
        wanted: As asked for.
        judge: A judge without a network needs no GPU.
        most: What there is room for; None is what this machine has.

    Raises:
        UsageError: There is no room for so many.
    """
    found = gpus() if has_network(judge) else 0
    if wanted is None:
        return max(found, 1)
    most = max(found, worker.cores(), 2) if most is None else most
    if not 1 <= wanted <= most:
        raise UsageError(
            f"--workers {wanted}", expected=f"1 to {most} on this machine ({worker.cores()} cores, {found} GPUs)"
        )
    return wanted


def check(judge: Manifest, runtime: Runtime) -> None:
    """See that the choices apply to the judge and that the GPUs asked for are there, before anything is loaded.

    Raises:
        UsageError: They do not, or are not.
    """
    if not has_network(judge) and (named := runtime.chosen()):
        raise UsageError(
            f"{', '.join(named)}: a {judge.kind} judge has no such choice",
            expected="a fine-tuned judge (--judge DIR of tiebreak train RECIPE)",
        )
    if runtime.devices == "ranks":
        raise UsageError(
            "--devices ranks: a run has whole copies of the judge for workers, not slices of one",
            expected="auto, cpu, cuda, or a list such as cuda:0,cuda:1 (the layers are split over it)",
        )
    asked = [device for device in runtime.devices.split(",") if device.startswith("cuda")]
    found = gpus() if asked else 0
    absent = [device for device in asked if int(device.partition(":")[2] or 0) >= found]
    if absent:
        raise UsageError(
            f"--devices {runtime.devices}: {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there",
            expected=f"one of the {found} GPUs that torch sees" if found else "a GPU that torch sees; there is none",
            mend="--devices auto takes what there is; python -m torch.utils.collect_env says why",
        )


@dataclass(frozen=True)
class Outlook:
    """What there is to do before anything is done.

    Attributes:
        rows: Rows of the input.
        chunks: Chunks that they make.
        characters: Of all texts.
        finished: Chunks whose part an interrupted run has left.
        finished_rows: Rows in these.
    """

    rows: int
    chunks: int
    characters: int
    finished: int
    finished_rows: int


def look(tables: Iterable[pl.DataFrame], plan: Plan) -> Outlook:
    """Read the input and count what a run would have to do; nothing is judged or written."""
    directory = beside(plan.output)
    ours = recall(directory).get("identity") == plan.identity
    parts = Parts(directory, plan.identity)
    count = rows = characters = finished = finished_rows = 0
    for number, table in enumerate(chunks(tables, plan.chunk_rows)):
        there = ours and parts.finished(number, table["id"]) is not None
        count, rows, characters = count + 1, rows + table.height, characters + weigh(table)
        finished, finished_rows = finished + there, finished_rows + there * table.height
    return Outlook(rows, count, characters, finished, finished_rows)
