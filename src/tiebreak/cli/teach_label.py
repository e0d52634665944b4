"""`tiebreak teach label`: what a teacher says of votes it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options

if TYPE_CHECKING:
    from tiebreak.teach.labelling import Outcome, Plan

if TYPE_CHECKING:
    from tiebreak.teach.labelling import Outcome, Plan

EPILOG = """
Examples:

    tiebreak teach label votes.parquet --judge fold-0 --judge fold-1 --judge fold-2 -o labels.parquet --dry-run

    tiebreak teach label votes.parquet --judge teachers -o labels.parquet

    tiebreak teach label votes.parquet --judge teachers --shard 2/8 -o labels.parquet

    tiebreak teach label pool.parquet --judge teachers --devices cuda:0,cuda:1 --max-length 3072 -o pool-labels.parquet

Stopped or killed, the same command goes on where it was; done, it does nothing.
"""


def command(
    votes: Annotated[Path, typer.Argument(metavar="VOTES", help="Comparisons with distinct ids, voted on or not.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Soft labels to write (.parquet); OUTPUT.run holds the work.")
    ],
    judge: Annotated[
        list[Path] | None,
        typer.Option(
            "--judge",
            "-j",
            show_default=False,
            help="Judge bundle, repeatable: one a fold teacher; or a folder with bundles fold-0, fold-1, ... "
            "[default: the embedded judge]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the teacher. [default: the judge's own, without its fold]", show_default=False),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            show_default=False,
            help="Label the I-th of N parts of the rows (I from 1), into OUTPUT.shard-I-of-N.parquet.",
        ),
    ] = None,
    in_sample: Annotated[
        bool,
        typer.Option(
            "--in-sample", help="Label rows that every teacher was trained on as well, and mark them; else an error."
        ),
    ] = False,
    limit: options.Limit = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    swap: options.Swap = None,
    base: options.Base = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Who would label how many rows, and what is done already; then stop.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Label each row by the teachers that were not trained on it: out-of-fold, aligned by id and content."""
    from tiebreak import ingest, judges
    from tiebreak.teach import labelling

    runtime = judges.Runtime(max_length, max_tokens, precision, devices, swap, base)
    part = labelling.Shard.parse(shard) if shard else None
    team = labelling.read(judge or [], name)
    table = ingest.read(votes, format=input_format, mapping=options.parse_map(mapping))
    plan = labelling.plan(table.head(limit) if limit else table, team, output, runtime=runtime, shard=part)
    _tell(plan, in_sample=in_sample)
    if dry_run:
        _dry_run(plan, in_sample=in_sample, as_json=as_json)
        return
    outcome, seconds = _label(plan, in_sample=in_sample)
    _report(plan, outcome, seconds, as_json)
    if not outcome.whole:
        every = output.with_name(f"{output.stem}.shard-*-of-{part.count}{output.suffix}") if part else None
        files = f'"{every}"' if every else str(plan.output)
        console.note(f"next{', with all shards' if part else ''}: tiebreak teach audit {files} --votes {votes}")


def _tell(plan: Plan, *, in_sample: bool) -> None:
    """What a person should know before hours of work begin."""
    counts = plan.whole.counts
    if counts["in_sample"] and in_sample:
        console.say(f"warning: {counts['in_sample']:,} rows were trained on by every teacher; their labels are marked")
    if counts["unknown"]:
        console.say(
            f"warning: {counts['unknown']:,} rows have a teacher that does not say what it was trained on (no "
            "trained_rows.txt in its bundle)"
        )
    if plan.surprise:
        console.say(f"warning: {plan.surprise}")


def _label(plan: Plan, *, in_sample: bool) -> tuple[Outcome, float]:
    from tiebreak import predict
    from tiebreak.cli.meter import Meter
    from tiebreak.teach import labelling

    with Meter("label", None) as meter:
        progress = predict.Progress(meter.advance, meter.taken, meter.tokens, meter.total)
        outcome = labelling.label(plan, in_sample=in_sample, progress=progress)
    return outcome, meter.seconds


def _dry_run(plan: Plan, *, in_sample: bool, as_json: bool) -> None:
    from tiebreak.teach.labelling import run

    done = run.finished(plan)
    if as_json:
        console.emit_json({"dry_run": True, **_document(plan, done)})
    else:
        _table(plan, done)
    refused = plan.whole.counts["in_sample"]
    if refused and not in_sample:
        console.say(f"note: every teacher was trained on {refused:,} rows: refused without --in-sample")
    console.note(f"would write {plan.table.height:,} labels of teacher {plan.routes.team.name} to {plan.output}")


def _document(plan: Plan, done: list[int]) -> dict[str, Any]:
    teachers = [
        {
            "judge": task.teacher.place,
            "revision": task.teacher.revision,
            "fold": task.teacher.fold,
            "rows": len(task.rows),
            "finished": finished,
        }
        for task, finished in zip(plan.tasks, done, strict=True)
    ]
    return {
        "output": str(plan.output),
        "teacher": plan.routes.team.name,
        "rows": plan.table.height,
        **plan.routes.counts,
        "several_teachers": plan.routes.several,
        "teachers": teachers,
    }


def _table(plan: Plan, done: list[int]) -> None:
    lines = [
        [
            task.teacher.place,
            "" if task.teacher.fold is None else str(task.teacher.fold),
            task.teacher.revision,
            f"{len(task.rows):,}",
            f"{count:,}",
        ]
        for task, count in zip(plan.tasks, done, strict=True)
    ]
    console.table(f"teacher {plan.routes.team.name}", ("judge", "fold", "revision", "rows", "done"), lines)
    counts = plan.routes.counts
    console.emit(
        f"\n{plan.table.height:,} rows: {counts['out_of_sample']:,} out of sample, {counts['in_sample']:,} in sample, "
        f"{counts['unknown']:,} nobody can tell; {plan.routes.several:,} labelled by several teachers"
    )


def _report(plan: Plan, outcome: Outcome, seconds: float, as_json: bool) -> None:
    rows, done = outcome.labels.height, [len(task.rows) for task in plan.tasks]
    cut = int(outcome.labels["truncated"].sum())
    if as_json:
        work = {"judged": outcome.judged, "reused": outcome.reused, "truncated": cut, "seconds": round(seconds, 3)}
        console.emit_json({**_document(plan, done), **work})
    else:
        _table(plan, done)
    if cut:
        console.note(f"  truncated: {cut:,} rows ({cut / rows:.1%})")
    name = plan.routes.team.name
    if outcome.whole:
        console.note(f"{outcome.output} holds these {rows:,} labels of teacher {name} already; nothing was done")
        return
    taken = f", {outcome.reused:,} of them judged by an earlier run" if outcome.reused else ""
    console.note(f"wrote {rows:,} labels of teacher {name}{taken} to {outcome.output}")
