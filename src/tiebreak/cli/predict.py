"""`tiebreak predict`: a file of votes in, a file of predictions out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tiebreak.cli import console, options, served_costs
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak import ingest
    from tiebreak.bundle import Manifest
    from tiebreak.cli.meter import Meter
    from tiebreak.judges.generative.served.store import Account
    from tiebreak.predict import Plan, Progress, Run

EPILOG = """
Examples:

    tiebreak predict votes.parquet -o predictions.parquet

    tiebreak predict test.csv --format kaggle -o submission.csv --sample sample_submission.csv

    tiebreak predict mine.jsonl --map prompt=question --map response_a=left --map response_b=right -o p.csv

    zcat votes.jsonl.gz | tiebreak predict - -o - | head

    tiebreak predict test.csv -j my-judge --max-length 4096 --max-tokens 8192 --format kaggle -o submission.csv

    tiebreak predict millions.parquet -j my-judge --engine torchrun --workers 8 -o p.parquet
"""
SCALE: Final = "Scale"
_SCANS: Final = {".parquet": "scan_parquet", ".csv": "scan_csv", ".jsonl": "scan_ndjson"}


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
        Path | None, typer.Option("--sample", help="sample_submission.csv: columns and ids are held against it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
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
    from tiebreak import bundle, ingest, judges, predict
    from tiebreak.predict import scale

    target = predict.format_of(output, form)
    _check(files, output, target, sample, engine, workers, resume=resume, as_json=as_json)
    runtime = judges.Runtime(max_length, max_tokens, precision, devices, swap, base, backend, server)
    manifest = bundle.read(judges.EMBEDDED if judge is None else judge)
    scale.check(manifest, runtime)
    reading = ingest.Options(format=input_format, mapping=options.parse_map(mapping), on_bad=on_bad)  # type: ignore[arg-type]
    source = _Source(files, reading, limit, None if output == "-" else Path(f"{output}.rejected.jsonl"))
    rows = chunk_rows or _chunk_rows(manifest, output, devices, resume=resume)
    name = str(judge) if judge else f"embedded ({manifest.name})"
    if output == "-":
        _pipe(source, judges.load(judge, runtime), target, rows)
        return
    plan = predict.Plan(
        judge, runtime, Path(output), target, source.identity(manifest, runtime, rows), rows,
        workers=_workers(engine, workers, manifest), resume=resume, sample=sample,
    )  # fmt: skip
    if dry_run:
        _dry_run(source, plan, engine, name, as_json)
        return
    report = ingest.Report()
    paid = served_costs.so_far(plan)
    done = _run(source, report, plan, engine, manifest)
    if done is not None:
        _report(*done, plan, engine, name, report, paid, as_json)


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
    if output == "-" and (engine != "local" or (workers or 1) > 1):
        raise UsageError("-o - is written by one process, in order", expected="-o FILE with several workers")


@dataclass(frozen=True)
class _Source:
    """The input: opened as often as need be, unless it is a pipe."""

    files: list[str]
    reading: ingest.Options
    limit: int | None
    rejected: Path | None

    def tables(self, report: ingest.Report | None = None) -> Iterable[pl.DataFrame]:
        from tiebreak import ingest

        return ingest.stream(
            self.files, self.reading, report=report or ingest.Report(), rejected=self.rejected, limit=self.limit
        )

    def identity(self, manifest: Manifest, runtime: Any, chunk_rows: int) -> str:
        from tiebreak import predict
        from tiebreak.predict import scale

        return predict.identity(
            [Path(file) for file in self.files if file != "-"], manifest, reading=repr(self.reading), limit=self.limit,
            chunk_rows=chunk_rows, runtime=scale.decisive(manifest, runtime),
        )  # fmt: skip

    def rows(self) -> int | None:
        """About how many rows there are, where that costs next to nothing: for the time left, no more."""
        import polars as pl

        found = 0
        for file in self.files:
            scan = _SCANS.get(Path(file).suffix.lower())
            if scan is None:
                return self.limit
            try:
                found += getattr(pl, scan)(file).select(pl.len()).collect().item()
            except (pl.exceptions.PolarsError, OSError):
                return self.limit
        return min(found, self.limit or found)


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


def _pipe(source: _Source, judge: Any, target: str, rows: int) -> None:
    from tiebreak import predict
    from tiebreak.cli.meter import Meter

    with Meter("predict", source.limit) as meter:
        for text in predict.predict_stream(
            source.tables(), judge, form=target, chunk_rows=rows, progress=_progress(meter)
        ):
            sys.stdout.write(text)


def _progress(meter: Meter) -> Progress:
    from tiebreak import predict

    return predict.Progress(
        meter.advance, meter.taken, meter.tokens, meter.total, lambda text: console.say(f"warning: {text}")
    )


def _run(
    source: _Source, report: ingest.Report, plan: Plan, engine: str, manifest: Manifest
) -> tuple[Run, float] | None:
    """Do it, and say what was done and in how many seconds; None on a rank that has no output."""
    from tiebreak import judges, predict
    from tiebreak.cli.meter import Meter

    total = source.rows() if judges.has_network(manifest) else source.limit
    try:
        rank, launch = predict.Rank.of_environment(), predict.launched()
        if engine == "torchrun" and launch is not None and rank.rank:
            predict.predict_as_rank(source.tables, plan, rank, launch)
            return None
        with Meter("predict", total) as meter:
            progress = _progress(meter)
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
        resume=plan.resume, sample=plan.sample, chunk_rows=plan.chunk_rows, progress=progress,
    )  # fmt: skip


def _dry_run(source: _Source, plan: Plan, engine: str, judge: str, as_json: bool) -> None:
    """Read the input and say what there is to do."""
    from tiebreak.predict import scale

    seen = scale.look(replace(source, rejected=None).tables(), plan)
    console.note(f"would judge {', '.join(source.files)} with {judge} and write {plan.form} to {plan.output}")
    console.note(
        f"  {seen.rows:,} rows in {seen.chunks:,} chunks of {plan.chunk_rows:,}, {seen.characters:,} characters; "
        f"finished already: {seen.finished:,} chunks ({seen.finished_rows:,} rows)"
    )
    console.note(f"  engine {engine}, workers {plan.workers or 'as the cluster has GPUs or nodes'}")
    asked = served_costs.foresee(plan, replace(source, rejected=None).tables()) if "-" not in source.files else {}
    if as_json:
        console.emit_json({
            "dry_run": True, "output": str(plan.output), "format": plan.form, "judge": judge, "engine": engine,
            "workers": plan.workers, "chunk_rows": plan.chunk_rows, **asdict(seen), **asked,
        })  # fmt: skip


def _report(
    run: Run, seconds: float, plan: Plan, engine: str, judge: str, report: ingest.Report, paid: Account | None,
    as_json: bool,
) -> None:  # fmt: skip
    for text, count in report.notes.items():
        console.note(f"  {text}: {count:,}")
    if report.rejected:
        console.say(f"{report.rejected:,} rows could not be read; they are in {plan.output}.rejected.jsonl")
    if run.tokens:
        console.note(
            f"  {run.tokens:,} tokens of text, {100 * run.kept / run.tokens:.1f} % of them read; "
            f"truncated: {run.truncated:,} rows ({100 * run.truncated / max(run.rows, 1):.1f} %)"
        )
    asked = served_costs.settle(plan, paid)
    taken = f", {run.reused:,} of them taken over from the interrupted run" if run.reused else ""
    console.note(f"wrote {run.rows:,} predictions{taken} to {plan.output} ({plan.form}); judge: {judge}")
    if as_json:
        console.emit_json({
            **asdict(run), "output": str(plan.output), "format": plan.form, "judge": judge, "engine": engine,
            "workers": plan.workers, "chunk_rows": plan.chunk_rows, "seconds": round(seconds, 3), **report.as_dict(),
            **asked,
        })  # fmt: skip
