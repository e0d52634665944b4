"""`tiebreak predict`: a file of votes in, a file of predictions out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.ingest import Report

EPILOG = """
Examples:

    tiebreak predict votes.parquet -o predictions.parquet

    tiebreak predict test.csv --format kaggle -o submission.csv --sample sample_submission.csv

    tiebreak predict mine.jsonl --map prompt=question --map response_a=left --map response_b=right -o p.csv

    zcat votes.jsonl.gz | tiebreak predict - -o - | head
"""


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
    chunk_rows: Annotated[int | None, typer.Option(min=1, help="Rows judged and stored at a time.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Predict P(A), P(B), P(tie) for every comparison of a file; order and ids are kept."""
    from tiebreak import ingest, judges, predict

    target = predict.format_of(output, form)
    if sample is not None and target != "kaggle":
        raise UsageError(f"--sample goes with a Kaggle submission, not with {target}", mend="--format kaggle")
    if "-" in (*files, output) and resume:
        raise UsageError("a pipe cannot be resumed", expected="files for input and output with --resume")
    if as_json and output == "-":
        raise UsageError("--json and -o - both write to stdout", expected="one of them", mend="-o FILE with --json")
    loaded = judges.load(judge)
    reading = ingest.Options(format=input_format, mapping=options.parse_map(mapping), on_bad=on_bad)  # type: ignore[arg-type]
    rows = chunk_rows or predict.CHUNK_ROWS
    name = str(judge) if judge else f"embedded ({loaded.manifest.name})"
    if dry_run:
        console.note(f"would judge {', '.join(files)} with {name} and write {target} to {output}")
        return
    report = ingest.Report()
    rejected = None if output == "-" else Path(f"{output}.rejected.jsonl")
    tables = ingest.stream(files, reading, report=report, rejected=rejected, limit=limit)
    with console.progress("predict", total=limit) as advance:
        if output == "-":
            for text in predict.predict_stream(tables, loaded, form=target, chunk_rows=rows, advance=advance):
                sys.stdout.write(text)
            return
        identity = predict.identity(
            [Path(file) for file in files if file != "-"],
            loaded, reading=repr(reading), format=target, limit=limit, chunk_rows=rows,
        )  # fmt: skip
        try:
            run = predict.predict_file(
                tables, loaded, Path(output), form=target, identity=identity, resume=resume, sample=sample,
                chunk_rows=rows, advance=advance,
            )  # fmt: skip
        except KeyboardInterrupt:
            console.say("stopped; the finished parts are kept: the same command with --resume goes on from there")
            raise
    _report(run.rows, run.reused, output, target, name, report, as_json)


def _report(rows: int, reused: int, output: str, form: str, judge: str, report: Report, as_json: bool) -> None:
    for text, count in report.notes.items():
        console.note(f"  {text}: {count:,}")
    if report.rejected:
        console.say(f"{report.rejected:,} rows could not be read; they are in {output}.rejected.jsonl")
    taken = f", {reused:,} of them taken over from the interrupted run" if reused else ""
    console.note(f"wrote {rows:,} predictions{taken} to {output} ({form}); judge: {judge}")
    if as_json:
        console.emit_json({"rows": rows, "reused": reused, "output": output, "format": form, "judge": judge,
                           **report.as_dict()})  # fmt: skip
