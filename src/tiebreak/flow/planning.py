"""A flow before anything runs: what each job asks for and takes, the sums, and how long the whole lasts."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tiebreak.budget import gpus as kinds
from tiebreak.flow import slurm, snakefile
from tiebreak.flow.costs import Estimate, estimate
from tiebreak.flow.node import Node
from tiebreak.flow.rows import Rows
from tiebreak.flow.schema import Flow

GIB = 2**30


@dataclass(frozen=True)
class Job:
    """One job of a plan.

    Attributes:
        node: What it is.
        estimate: What it takes.
        request: The sbatch command that submits it; empty for one that runs where the flow was started.
    """

    node: Node
    estimate: Estimate
    request: str


@dataclass(frozen=True)
class Total:
    """A sum over jobs.

    Attributes:
        jobs: How many.
        petaflops: 10^15 operations.
        gpu_hours: Of those whose hours are known.
        cost: Of those with a price; None where none has one.
    """

    jobs: int
    petaflops: float
    gpu_hours: float
    cost: float | None

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Total:
        """The sum of some jobs."""
        costs = [job.estimate.cost for job in jobs if job.estimate.cost is not None]
        return cls(
            len(jobs), sum(job.estimate.work.petaflops for job in jobs),
            sum(job.estimate.gpu_hours for job in jobs), sum(costs) if costs else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a flow will take.

    Attributes:
        jobs: In the order of the chain.
        stages: Sums by kind of stage, in the order of the chain.
        total: Of all.
        parallel: Jobs that run at a time at most.
        gpus: GPUs that are used at a time at most; None for any number.
        hours: Until the last job ends, with so many at a time, and none waiting for the cluster.
        shortest: The same with any number of jobs at a time: the length of the critical path.
        path: Names of the jobs on the critical path.
        notes: What was counted, what was assumed, and what will not fit.
    """

    jobs: list[Job]
    stages: dict[str, Total]
    total: Total
    parallel: int
    gpus: int | None
    hours: float
    shortest: float
    path: list[str]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        jobs = [
            {
                "name": job.node.name, "stage": job.node.stage, "about": job.node.about, "after": list(job.node.inputs),
                "command": list(job.node.command), "resources": job.node.resources.model_dump(exclude_none=True),
                **asdict(job.estimate), "request": job.request,
            }
            for job in self.jobs
        ]  # fmt: skip
        return {**vars(self), "jobs": jobs, "stages": {name: asdict(sum_) for name, sum_ in self.stages.items()},
                "total": asdict(self.total)}  # fmt: skip


def plan(
    flow: Flow, nodes: Sequence[Node], *, parallel: int | None = None, gpus: int | None = None, folder: str = ".",
    accounting: bool = True,
) -> Plan:  # fmt: skip
    """Work out what a flow will take. No network is built and nothing is submitted.

    Args:
        flow: The flow.
        nodes: Its jobs, each after those that it rests on.
        parallel: Jobs that run at a time at most; None: `slurm.jobs` of the flow.
        gpus: GPUs that are used at a time at most; None: any number. A job that wants more runs alone.
        folder: Of the flow, for the requests.
        accounting: Whether the cluster keeps accounts, for the requests.

    Raises:
        UsageError: A job asks for something that cannot be asked for.
        DataError: A file of votes is here and cannot be read.
    """
    rows = Rows.expected(flow)
    slurm.setup(flow)
    by_name, rules = {node.name: node for node in nodes}, snakefile.rules(nodes)
    jobs = [
        Job(
            node,
            estimate(node, by_name, flow, rows),
            slurm.request(node, flow, rules[node.name], folder=folder, accounting=accounting),
        )
        for node in nodes
    ]
    stages: dict[str, Total] = {
        stage: Total.of([job for job in jobs if job.node.stage == stage])
        for stage in dict.fromkeys(job.node.stage for job in jobs)
    }
    many = parallel or flow.slurm.jobs
    hours = {job.node.name: job.estimate.hours or 0.0 for job in jobs}
    path = critical_path(by_name, hours)
    notes = [*rows.notes, *_unknown(jobs), *_too_large(jobs), *_too_long(jobs)]
    last = makespan(by_name, hours, many, gpus)
    return Plan(jobs, stages, Total.of(jobs), many, gpus, last, sum(hours[name] for name in path), path, notes)


def critical_path(nodes: Mapping[str, Node], hours: Mapping[str, float]) -> list[str]:
    """The chain of jobs that takes longest, first to last: no number of machines makes the flow shorter."""
    behind = _behind(nodes, hours)
    path: list[str] = []
    ready = list(nodes)
    while ready:
        path.append(max(ready, key=lambda name: behind[name]))
        ready = [name for name, node in nodes.items() if path[-1] in node.inputs]
    return path


def makespan(nodes: Mapping[str, Node], hours: Mapping[str, float], parallel: int, gpus: int | None = None) -> float:
    """Hours until the last job ends, with so many jobs and GPUs at a time; those with the longest way go first.

    A list schedule by the critical path (Hu 1961): within twice the shortest that there is, and mostly near it.
    """
    behind = _behind(nodes, hours)
    waiting = {name: len(node.inputs) for name, node in nodes.items()}
    ready = sorted((name for name, count in waiting.items() if not count), key=lambda name: -behind[name])
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        free = math.inf if gpus is None else gpus - sum(nodes[name].gpus for _, name in running)
        for name in list(ready):
            if len(running) < parallel and (nodes[name].gpus <= free or not running):
                heapq.heappush(running, (now + hours[name], name))
                ready.remove(name)
                free -= nodes[name].gpus
        now, done = heapq.heappop(running)
        for name, node in nodes.items():
            if done in node.inputs:
                waiting[name] -= 1
                ready += [] if waiting[name] else [name]
        ready.sort(key=lambda name: -behind[name])
    return now


def _behind(nodes: Mapping[str, Node], hours: Mapping[str, float]) -> dict[str, float]:
    """Hours from the start of each job to the end of the flow, on the longest way."""
    behind: dict[str, float] = {}
    for name in reversed(list(nodes)):
        after = [behind[other] for other, node in nodes.items() if name in node.inputs]
        behind[name] = hours[name] + max(after, default=0.0)
    return behind


def _unknown(jobs: Sequence[Job]) -> list[str]:
    """Jobs whose time is not known, and why."""
    blind = [job for job in jobs if job.estimate.hours is None]
    if not blind:
        return []
    named = ", ".join(sorted({job.node.resources.gpu or "none named" for job in blind}))
    known = ", ".join(gpu.name for gpu in kinds.GPUS)
    return [f"{len(blind)} jobs on GPUs of a kind that is not known ({named}): no hours for them; known: {known}"]


def _too_large(jobs: Sequence[Job]) -> list[str]:
    """Kinds of jobs whose weights alone do not fit a GPU."""
    notes: dict[tuple[str, int], str] = {}
    for job in jobs:
        asked, weights = job.node.resources, job.estimate.work.weights
        known = kinds.find(asked.gpu or "")
        room = asked.gpu_memory or (known.memory if known else None)
        sharded = job.node.recipe is not None and job.node.recipe.strategy == "fsdp"
        if not job.node.gpus or room is None or weights is None:
            continue
        each = weights / (job.node.gpus if sharded else 1) / GIB
        if each > room:
            text = f"{job.node.name} will not fit: weights and optimiser take {each:,.0f} GiB on a GPU of {room:g} GiB"
            notes.setdefault((job.node.stage, round(each)), text)
    return list(notes.values())


def _too_long(jobs: Sequence[Job]) -> list[str]:
    """Kinds of jobs that their time limit stops, as far as can be told."""
    notes: dict[tuple[str, int], str] = {}
    for job in jobs:
        limit, hours = job.node.resources.hours, job.estimate.hours
        if limit is not None and hours is not None and hours > limit:
            goes_on = "goes on in a further job each time" if job.node.resumable else "would begin anew each time"
            text = f"{job.node.name} takes about {hours:.1f} h and is stopped after {limit:g} h: it {goes_on}"
            notes.setdefault((job.node.stage, round(hours)), text)
    return list(notes.values())
