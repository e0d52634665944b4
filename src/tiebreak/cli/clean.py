"""`tiebreak data clean`: policies for rows that say little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import options, tables
from tiebreak.cli.tables import plural

if TYPE_CHECKING:
    import polars as pl

EPILOG = """
Examples:

    tiebreak data clean votes.parquet -o clean.parquet

    tiebreak data clean votes.parquet --empty lose --identical tie --no-label drop -o clean.parquet --report clean.json

    tiebreak data clean train.csv --dry-run
"""


def command(
    source: tables.Source,
    output: tables.Output = None,
    both_empty: Annotated[str, typer.Option(help="Both answers are empty: drop, keep, or tie.")] = "drop",
    empty: Annotated[
        str, typer.Option(help="One answer is empty: keep, drop, or lose (the other answer gets the vote).")
    ] = "keep",
    identical: Annotated[str, typer.Option(help="The answers are identical: keep, drop, or tie.")] = "keep",
    no_prompt: Annotated[str, typer.Option(help="The prompt is empty: keep or drop.")] = "keep",
    no_label: Annotated[str, typer.Option(help="There is no label: keep or drop.")] = "keep",
    blind: Annotated[bool, typer.Option("--blind", help="Forget all labels, hard and soft.")] = False,
    prefix: Annotated[str, typer.Option(help="Put before every id, so that rows of two sources differ.")] = "",
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    report: tables.ReportFile = None,
    dry_run: tables.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Drop, keep or relabel empty and identical answers, by stated policies. Every change is counted."""
    tables.check_output(output, dry_run=dry_run, as_json=as_json)
    from tiebreak import prepare
    from tiebreak.cli import console

    table = tables.read(source, input_format, mapping)
    kept, done = prepare.clean(
        table, both_empty=both_empty, empty=empty, identical=identical, no_prompt=no_prompt, no_label=no_label,  # type: ignore[arg-type]
    )  # fmt: skip
    for kind, policy in done.policies.items():
        if not done.found[kind]:
            continue
        changes = {"dropped": done.dropped[kind], "relabelled": done.relabelled[kind]}
        said = ", ".join(f"{count:,} {what}" for what, count in changes.items() if count) or "none changed"
        console.note(f"  {kind.replace('_', ' ')}: {plural(done.found[kind], 'row')}, policy {policy}: {said}")
    relabelled = sum(done.relabelled.values())
    console.note(f"dropped {done.rows - done.kept:,} of {plural(done.rows, 'row')}, relabelled {relabelled:,}")
    if blind:
        kept = _without_labels(kept)
        console.note(f"forgot the labels of {plural(kept.height, 'row')}")
    if prefix:
        kept = _prefixed(kept, prefix)
    tables.write(kept, output, dry_run=dry_run)
    tables.report(done.as_dict(), as_json=as_json, to=report)


def _prefixed(table: pl.DataFrame, prefix: str) -> pl.DataFrame:
    import polars as pl

    return table.with_columns((pl.lit(prefix) + pl.col("id")).alias("id"))


def _without_labels(table: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    from tiebreak import comparisons

    return comparisons.validate(table.with_columns(pl.lit(None).alias(name) for name in ("label", *comparisons.SOFT)))
