"""`tiebreak flow plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, flow_run, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.flow.planning import Job, Plan, Total

EPILOG = """
Examples:

    tiebreak flow plan blackpearl

    tiebreak flow plan blackpearl --gpus 8 resources.teacher.gpu=h100 resources.teacher.price=3

    tiebreak flow plan mine.yaml --executor local --json
"""


def command(
    flow: flow_run.FlowName,
    overrides: flow_run.Overrides = None,
    data: flow_run.Data = None,
    pairs: flow_run.Pairs = None,
    output: flow_run.Folder = None,
    executor: Annotated[
        str, typer.Option(help="slurm: with the sbatch request of each job; local: without.")
    ] = "slurm",
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Jobs that run at a time at most. [default: slurm.jobs of the flow]")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs in use at a time at most. [default: any number]")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """What each job of a flow asks for and takes: rows, steps, tokens, arithmetic, GPU hours, money. Runs nothing."""
    from tiebreak.flow import graph, planning

    if executor not in {"slurm", "local"}:
        raise UsageError(f"--executor {executor}", expected="slurm or local")
    found = flow_run.read(flow, overrides, data, pairs)
    folder = str((output or flow_run.folder(flow)).absolute())
    plan = planning.plan(found, graph.graph(found), parallel=parallel, gpus=gpus, folder=folder)
    if as_json:
        console.emit_json({"flow": found.model_dump(mode="json"), **plan.as_dict()})
        return
    _show(found.name, plan)
    if executor == "slurm":
        console.emit("\nwhat is submitted, job by job, without the call of snakemake that each wraps")
        for job in plan.jobs:
            console.emit(job.request or f"# not submitted: {job.node.name}")
    for note in plan.notes:
        console.note(note)


def _show(name: str, plan: Plan) -> None:
    header = ["job", "GPUs", "hours", "GPU hours", "cost", "PFLOP", "rows", "steps", "M tokens"]
    console.table(name, header, [_row(job) for job in plan.jobs])
    sums = [[stage, *_sum(total)] for stage, total in plan.stages.items()]
    console.table("\nsums", ["stage", "jobs", "GPU hours", "cost", "PFLOP"], [*sums, ["all", *_sum(plan.total)]])
    most = f"{plan.parallel} jobs" + (f" and {plan.gpus} GPUs" if plan.gpus else "")
    console.emit(f"\n{_days(plan.hours)} with {most} at a time, none of them waiting for the cluster")
    long = [job.node.name for job in plan.jobs if job.node.name in plan.path and job.estimate.hours]
    console.emit(f"{_days(plan.shortest)} at least: {' -> '.join(long)}")


def _row(job: Job) -> list[str]:
    found, work = job.estimate, job.estimate.work
    return [
        job.node.name, _number(job.node.gpus), "?" if found.hours is None else _number(found.hours),
        _number(found.gpu_hours), _number(found.cost), _number(work.petaflops), _number(work.rows),
        _number(work.steps), _number(work.tokens / 1e6),
    ]  # fmt: skip


def _sum(total: Total) -> list[str]:
    return [_number(total.jobs), _number(total.gpu_hours), _number(total.cost), _number(total.petaflops)]


def _number(value: float | None) -> str:
    """Empty for nothing, and no more digits than an estimate has."""
    if not value:
        return ""
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _days(hours: float) -> str:
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
