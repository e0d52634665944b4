"""`tiebreak predict`: a file of votes in, a file of predictions out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tiebreak.cli import console, options, predict_guard, predict_report, predict_source, served_costs
from tiebreak.cli.predict_guard import Fallback
from tiebreak.cli.predict_source import Source
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak import ingest
    from tiebreak.bundle import Manifest
    from tiebreak.cli.meter import Meter
    from tiebreak.predict import Plan, Progress, Run
    from tiebreak.predict.forms import Submission

EPILOG = """
Examples:

    tiebreak predict votes.parquet -o predictions.parquet

    tiebreak predict test.csv --format kaggle -o submission.csv --sample sample_submission.csv

    tiebreak predict test.csv -j my-judge --within 8h30m --otherwise embedded --format kaggle -o submission.csv

    tiebreak predict mine.jsonl --map prompt=question --map response_a=left --map response_b=right -o p.csv

    zcat votes.jsonl.gz | tiebreak predict - -o - | head

    tiebreak predict test.csv -j my-judge --max-length 4096 --max-tokens 8192 --format kaggle -o submission.csv

    tiebreak predict millions.parquet -j my-judge --engine torchrun --workers 8 -o p.parquet
"""
SCALE: Final = "Scale"
TIME: Final = "Time guard"


def command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Votes in any known format; - reads stdin.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write: .parquet, .csv or .jsonl; - writes JSON lines.")
    ],
    judge: options.Judge = None,
    form: Annotated[
        str, typer.Option("--format", help="auto (by suffix), parquet, csv, jsonl, or kaggle for a submission.")
    ] = "auto",
    sample: Annotated[
        Path | None,
        typer.Option("--sample", help="sample_submission.csv: says the form; columns and ids are held against it."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="NAME=CONTENT",
            help="What a column of the submission holds, repeatable, where its name does not say it: p_a, p_b, p_tie, "
            "p_a_without_tie, p_b_without_tie, winner, winner_without_tie, or id (docs/predict.md).",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            rich_help_panel=TIME,
            show_default=False,
            help="Have the output written this long from now: 8h30m, 90m, or seconds. Rows that the judge has not "
            "done by then are those of --otherwise.",
        ),
    ] = None,
    otherwise: Annotated[
        str | None,
        typer.Option(
            metavar="JUDGE",
            rich_help_panel=TIME,
            show_default=False,
            help="Cheaper judge (a bundle, or embedded): answers every row first, and keeps those that the judge does "
            "not get to, for want of time or because it dies. [default with --within: embedded]",
        ),
    ] = None,
    limit: options.Limit = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    on_bad: Annotated[
        str, typer.Option("--on-bad", help="Rows that cannot be read: stop, or skip (to OUTPUT.rejected.jsonl).")
    ] = "stop",
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    swap: options.Swap = None,
    base: options.Base = None,
    backend: options.Backend = None,
    server: options.Server = None,
    engine: Annotated[
        str, typer.Option(rich_help_panel=SCALE, help="local, torchrun (one rank a GPU) or ray (RAY_ADDRESS).")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=SCALE,
            show_default=False,
            help="Copies of the judge at work at once. [default: 1; one a GPU with torchrun and ray]",
        ),
    ] = None,
    chunk_rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=SCALE,
            show_default=False,
            help="Rows judged and stored at a time. [default: about a minute's work]",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Predict P(A), P(B), P(tie) for every comparison of a file; order and ids are kept."""  # fmt: skip
    started = time.monotonic()
    from tiebreak import bundle, ingest, judges, predict
    from tiebreak.predict import scale

    target = predict.format_of(output, form)
    _check(files, output, target, sample, engine, workers, resume=resume, as_json=as_json)
    guarded = not (within is None and otherwise is None)
    if guarded:
        predict_guard.check(files, output, engine, launched=engine == "torchrun" and predict.launched() is not None)
    kaggle = predict_source.submission_of(target, sample, column)
    runtime = judges.Runtime(max_length, max_tokens, precision, devices, swap, base, backend, server)
    manifest = bundle.read(judges.EMBEDDED if judge is None else judge)
    scale.check(manifest, runtime)
    columns = predict_source.with_ids(options.parse_map(mapping), files, kaggle)
    reading = ingest.Options(format=input_format, mapping=columns, on_bad=on_bad)  # type: ignore[arg-type]
    source = Source(files, reading, limit, None if output == "-" else Path(f"{output}.rejected.jsonl"))
    rows = chunk_rows or _chunk_rows(manifest, output, devices, resume=resume)
    name = str(judge) if judge else f"embedded ({manifest.name})"
    if output == "-":
        _pipe(source, judges.load(judge, runtime), target, rows, kaggle)
        return
    plan = predict.Plan(
        judge, runtime, Path(output), target, source.identity(manifest, runtime, rows), rows,
        workers=_workers(engine, workers, manifest), resume=resume, sample=sample, kaggle=kaggle,
    )  # fmt: skip
    fallback = predict_guard.fallback_of(within, otherwise, started, source, manifest, devices) if guarded else None
    if dry_run:
        predict_report.foresee(source, plan, engine, name, fallback, as_json=as_json)
        return
    report = ingest.Report()
    paid = served_costs.so_far(plan)
    done = _run(source, report, plan, engine, manifest, fallback)
    if done is not None:
        predict_report.tell(*done, plan, engine, name, fallback, report, paid, as_json=as_json)


def _check(
    files: list[str], output: str, target: str, sample: Path | None, engine: str, workers: int | None, *,
    resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """What can be seen from the command line alone."""
    from tiebreak.predict import scale

    if engine not in scale.ENGINES:
        raise UsageError(f"--engine {engine!r}", expected=f"one of {', '.join(scale.ENGINES)}")
    if sample is not None and target != "kaggle":
        raise UsageError(f"--sample goes with a Kaggle submission, not with {target}", mend="--format kaggle")
    if "-" in (*files, output) and resume:
        raise UsageError("a pipe cannot be resumed", expected="files for input and output with --resume")
    if as_json and output == "-":
        raise UsageError("--json and -o - both write to stdout", expected="one of them", mend="-o FILE with --json")
    if output == "-" and sample is not None:
        raise UsageError("--sample is held against a whole file", expected="-o FILE with --sample")
    if output == "-" and (engine != "local" or (workers or 1) > 1):
        raise UsageError("-o - is written by one process, in order", expected="-o FILE with several workers")


def _chunk_rows(manifest: Manifest, output: str, devices: str, *, resume: bool) -> int:
    """As the interrupted run had it, for its parts are to be used; else by the kind of judge and device."""
    from tiebreak import predict
    from tiebreak.predict import scale

    recorded = predict.recall(predict.beside(Path(output))).get("chunk_rows") if resume else None
    return recorded if isinstance(recorded, int) and recorded > 0 else scale.chunk_rows(manifest, devices)


def _workers(engine: str, wanted: int | None, manifest: Manifest) -> int:
    from tiebreak.predict import scale

    if engine == "ray" and os.environ.get("RAY_ADDRESS"):
        return wanted or 0  # the cluster says
    return 1 if engine == "local" and wanted is None else scale.workers(wanted, manifest)


def _pipe(source: Source, judge: Any, target: str, rows: int, kaggle: Submission | None) -> None:
    from tiebreak import predict
    from tiebreak.cli.meter import Meter
    from tiebreak.predict import forms

    with Meter("predict", source.limit) as meter:
        for text in predict.predict_stream(
            source.tables(), judge, form=target, chunk_rows=rows, progress=_progress(lambda: meter),
            kaggle=kaggle or forms.LMSYS,
        ):  # fmt: skip
            sys.stdout.write(text)


def _progress(meter: Callable[[], Meter]) -> Progress:
    """What a run tells, to the meter of the moment."""
    from tiebreak import predict

    return predict.Progress(
        advance=lambda rows: meter().advance(rows),
        taken=lambda rows: meter().taken(rows),
        tokens=lambda count: meter().tokens(count),
        total=lambda rows: meter().total(rows),
        note=lambda text: console.say(f"warning: {text}"),
    )


def _run(
    source: Source, report: ingest.Report, plan: Plan, engine: str, manifest: Manifest, fallback: Fallback | None
) -> tuple[Run, float] | None:
    """Do it, and say what was done and in how many seconds; None on a rank that has no output."""
    from tiebreak import judges, predict
    from tiebreak.cli.meter import Meter

    total = source.rows() if judges.has_network(manifest) else source.limit
    try:
        if fallback is not None:
            return predict_guard.run(source, report, plan, engine, fallback, total, _progress)
        rank, launch = predict.Rank.of_environment(), predict.launched()
        if engine == "torchrun" and launch is not None and rank.rank:
            predict.predict_as_rank(source.tables, plan, rank, launch)
            return None
        with Meter("predict", total) as meter:
            progress = _progress(lambda: meter)
            if engine == "torchrun" and launch is not None:
                again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
                plan = replace(plan, resume=plan.resume or again)
                run = predict.predict_as_rank(lambda: source.tables(report), plan, rank, launch, progress)
            else:
                run = _engine(source.tables(report), plan, engine, progress)
    except KeyboardInterrupt:
        console.say("stopped; the finished parts are kept: the same command with --resume goes on from there")
        raise
    return None if run is None else (run, meter.seconds)


def _engine(tables: Iterable[pl.DataFrame], plan: Plan, engine: str, progress: Progress) -> Run:
    from tiebreak import judges, predict

    if engine == "ray":
        return predict.predict_ray(tables, plan, progress)
    if engine == "torchrun":
        return predict.predict_torchrun(tables, plan, progress)
    if plan.workers > 1:
        return predict.predict_local(tables, plan, progress)
    return predict.predict_file(
        tables, judges.load(plan.judge, plan.runtime), plan.output, form=plan.form, identity=plan.identity,
        resume=plan.resume, sample=plan.sample, chunk_rows=plan.chunk_rows, progress=progress, kaggle=plan.kaggle,
    )  # fmt: skip
