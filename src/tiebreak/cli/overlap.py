"""`tiebreak data overlap`: rows of one file that another knows already."""

from __future__ import annotations

from typing import Annotated

import typer

from tiebreak.cli import console, options, tables
from tiebreak.cli.tables import plural
from tiebreak.errors import GateError, UsageError

EPILOG = """
Examples:

    tiebreak data overlap train.parquet test.parquet

    tiebreak data overlap train.parquet test.parquet --drop -o test-unseen.parquet --report overlap.json

    tiebreak data overlap train.parquet test.parquet --fail-if-any
"""


def command(
    left: Annotated[str, typer.Argument(metavar="LEFT", help="What is known, such as the training votes.")],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help="What should be new, such as the test votes.")],
    output: tables.Output = None,
    drop: Annotated[bool, typer.Option("--drop", help="Write RIGHT without the rows that overlap (needs -o).")] = False,
    fail_if_any: Annotated[bool, typer.Option("--fail-if-any", help="Exit with code 6 if any row overlaps.")] = False,
    near: tables.Near = True,
    threshold: tables.Threshold = 0.8,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    report: tables.ReportFile = None,
    dry_run: tables.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Rows of RIGHT whose prompt or answer pair equals, or nearly equals, one in LEFT."""
    if drop:
        tables.check_output(output, dry_run=dry_run, as_json=as_json)
    elif output is not None:
        raise UsageError("-o without --drop", expected="--drop -o FILE", mend=f"--drop -o {output}")
    if left == right == tables.STDOUT:
        raise UsageError("LEFT and RIGHT are both standard input", expected="at most one of them")
    from tiebreak import prepare

    known, new = (tables.read(path, input_format, mapping) for path in (left, right))
    found = prepare.overlap(known, new, near=near, threshold=threshold)
    for kind, count in found.counts.items():
        examples = found.matches.filter(found.matches["kind"] == kind).head(3)
        pairs = ", ".join(f"{ours} ~ {theirs}" for ours, theirs in examples.select("id", "left_id").iter_rows())
        console.note(f"  {kind}: {plural(count, 'row')}" + (f" (such as {pairs})" if pairs else ""))
    rows = len(found.rows)
    share = f" ({rows / new.height:.1%})" if new.height else ""
    console.note(f"{plural(rows, 'row')} of {new.height:,}{share} in {right} overlap with {left}")
    if drop:
        tables.write(found.drop(new), output, dry_run=dry_run)
    elif not as_json:
        for row_id in found.ids:
            console.emit(row_id)
    tables.report({"left": left, "right": right, **found.as_dict()}, as_json=as_json, to=report)
    if fail_if_any and rows:
        raise GateError(
            f"{plural(rows, 'row')} of {right} overlap with {left}",
            expected="none",
            mend=f"tiebreak data overlap {left} {right} --drop -o unseen.parquet",
        )
