"""`tiebreak data dedupe`: groups of equal texts, and copies of rows dropped."""

from __future__ import annotations

from typing import Annotated

import typer

from tiebreak.cli import console, options, tables
from tiebreak.cli.tables import plural

EPILOG = """
Examples:

    tiebreak data dedupe votes.parquet -o unique.parquet

    tiebreak data dedupe votes.parquet --conflicts soft -o unique.parquet --report dedupe.json

    tiebreak data dedupe votes.parquet --exact --dry-run
"""


def command(
    source: tables.Source,
    output: tables.Output = None,
    conflicts: Annotated[
        str,
        typer.Option(
            help="Copies with different labels: keep-first, majority, or soft (shares of the votes as p_a, p_b, p_tie)."
        ),
    ] = "keep-first",
    near: tables.Near = True,
    threshold: tables.Threshold = 0.8,
    regroup: tables.Regroup = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    report: tables.ReportFile = None,
    dry_run: tables.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Fill `group` (rows of equal or nearly equal prompts or answers) and drop rows that are there already.

    A row is a copy when prompt and unordered answer pair are equal after normalising. Near-duplicates only share a
    group; they are never dropped.
    """
    tables.check_output(output, dry_run=dry_run, as_json=as_json)
    from tiebreak import prepare

    table = tables.read(source, input_format, mapping)
    kept, done = prepare.dedupe(
        table, conflicts=conflicts, near=near, threshold=threshold, keep_given=not regroup  # type: ignore[arg-type]
    )  # fmt: skip
    tables.note_grouping(done.grouping)
    copies = done.rows - done.kept
    console.note(f"dropped {copies:,} {'copy' if copies == 1 else 'copies'}, kept {done.kept:,} rows")
    if done.conflicting or done.relabelled:
        console.note(
            f"  {plural(done.conflicting, 'row')} had copies with different labels, policy {done.policy}: "
            f"{plural(done.relabelled, 'label')} changed"
        )
    tables.write(kept, output, dry_run=dry_run)
    tables.report(done.as_dict(), as_json=as_json, to=report)
