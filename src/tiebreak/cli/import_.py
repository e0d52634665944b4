"""`tiebreak data import`: files of votes into one table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.errors import BadRowsError, UsageError

if TYPE_CHECKING:
    from tiebreak.ingest import Report

EPILOG = """
Examples:

    tiebreak data import train.csv -o votes.parquet

    tiebreak data import battles.jsonl --both-bad drop -o votes.parquet

    tiebreak data import pairs.csv --map prompt=question --map response_a=left --map response_b=right -o votes.parquet

    tiebreak data import votes.csv --label 1=a --label 2=b --label 0=tie --on-bad skip -o votes.parquet

    zcat votes.jsonl.gz | tiebreak data import - -o - | head
"""


def command(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="CSV, TSV, JSON, JSON lines (.gz too) or parquet; - is standard input."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Table to write: .parquet, .jsonl or .csv; - writes JSON lines to stdout."),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto, kaggle, wsdm, arena, preference, mapped or tiebreak; auto looks at columns and cells.",
        ),
    ] = "auto",
    mapping: options.Map = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="THEIRS=a|b|tie", help="Say what a label of yours means; repeat it."),
    ] = None,
    both_bad: Annotated[
        str, typer.Option("--both-bad", help="A verdict 'both are bad': tie or drop (the row).")
    ] = "tie",
    on_bad: Annotated[
        str,
        typer.Option(
            "--on-bad", help="A row that cannot be read: stop, or skip (it goes to OUTPUT's stem + .rejected.jsonl)."
        ),
    ] = "stop",
    seed: Annotated[int, typer.Option("--seed", help="Decides on which side chosen answers go.")] = 0,
    limit: options.Limit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report; write nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Bring files of votes into one table, whatever form they have; docs/data.md lists the forms."""
    from tiebreak.ingest import Options, import_file

    if output is None and not dry_run:
        raise UsageError("no output", expected="-o FILE, or --dry-run", mend="add -o votes.parquet")
    if as_json and not dry_run and str(output) == "-":
        raise UsageError("--json and -o - both write to stdout", expected="one of them")
    policies = Options(
        format=format, mapping=options.parse_map(mapping), labels=_labels(label),
        both_bad=both_bad, on_bad=on_bad, seed=seed,  # type: ignore[arg-type]  # checked by Options itself
    )  # fmt: skip
    with console.progress("read", None) as advance:
        try:
            report = import_file(files, None if dry_run else output, policies, advance, limit=limit)
        except BadRowsError as error:
            command_line = shlex.join(["tiebreak", *sys.argv[1:]])
            raise BadRowsError(error.rows, error.count, mend=f"{command_line} --on-bad skip") from error
    _tell(report, None if dry_run else output)
    if as_json:
        console.emit_json(report.as_dict())


def _labels(given: list[str] | None) -> dict[str, str]:
    labels: dict[str, str] = {}
    for pair in given or []:
        # From the right: their label may hold an equals sign, ours never does.
        theirs, equals, ours = pair.rpartition("=")
        if not (theirs and equals and ours):
            raise UsageError(f"--label {pair!r}", expected="THEIRS=a, b or tie, for example --label 2=tie")
        labels[theirs] = ours
    return labels


def _tell(report: Report, output: Path | None) -> None:
    for file, form in zip(report.files, report.formats, strict=True):
        console.note(f"{file}: format {form}")
    labels = ", ".join(f"{count:,} {name}" for name, count in report.labels.items() if count)
    console.note(_rows(report.rows) + (f": {labels}" if labels else ""))
    for text, count in sorted(report.notes.items(), key=lambda item: -item[1]):
        console.note(f"note: {text} ({_rows(count)})")
    if report.rejected:
        place = f", in {output.stem}.rejected.jsonl" if output is not None and str(output) != "-" else ""
        console.say(f"warning: {_rows(report.rejected, 'bad ')} left out{place}")
    if output is not None and str(output) != "-":
        console.note(f"wrote {output}")


def _rows(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}row{'' if count == 1 else 's'}"
