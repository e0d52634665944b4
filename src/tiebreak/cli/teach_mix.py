"""`tiebreak teach mix`: people's votes and a teacher's labels of unlabelled pairs as one table to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options, tables
from tiebreak.errors import DataError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.teach.mixing import MixReport

EPILOG = """
Examples:

    tiebreak teach mix --votes votes.parquet --pool pool.parquet --labels pool-labels.parquet -o mixed.parquet

    tiebreak teach mix --votes votes.parquet --pool pool.parquet --labels llama.parquet --agreement qwen.parquet \\
        --margin .1 --weight .3 --exclude test.parquet -o mixed.parquet
"""


def command(
    votes: Annotated[Path, typer.Option("--votes", help="Comparisons with people's votes; all are kept.")],
    pool: Annotated[Path, typer.Option("--pool", help="Comparisons without votes.")],
    labels: Annotated[str, typer.Option("--labels", help="A teacher's labels of the pool; shards as a quoted glob.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Votes and pseudo-labelled rows (.parquet).")],
    weight: Annotated[
        float, typer.Option(min=0.0, help="Weight of a pseudo-labelled row beside a vote of weight 1.")
    ] = 0.5,
    margin: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Drop rows where |P(A) - P(B)| is at most this and no tie is said."),
    ] = 0.03,
    agreement: Annotated[
        list[str] | None,
        typer.Option(
            "--agreement", metavar="LABELS", help="Another teacher's labels of the pool; repeatable: all must agree."
        ),
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option("--exclude", metavar="FILE", help="Comparisons that must stay unseen, such as a test set."),
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", min=1, help="At most so many pseudo-labelled rows, drawn at random.")
    ] = None,
    near: Annotated[
        bool, typer.Option("--near/--exact", help="Near-duplicates of votes and excluded rows are dropped too.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and print, write nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Add pairs that nobody voted on, with a teacher's probabilities, and count everything that is left out."""
    tables.check_output(str(output), dry_run=dry_run, as_json=as_json)
    from tiebreak.teach import mixing

    teacher = _labels(labels)
    others = [_labels(pattern) for pattern in agreement or []]
    mixed, report = mixing.mix(
        tables.read(str(votes), input_format, mapping),
        tables.read(str(pool), input_format, mapping),
        teacher,
        agreement={str(table["teacher"][0]): table for table in others},
        exclude={str(path): tables.read(str(path), input_format, mapping) for path in exclude or []},
        weight=weight, margin=margin, max_rows=max_rows, near=near, seed=seed,
    )  # fmt: skip
    tables.write(mixed, str(output), dry_run=dry_run)
    if as_json:
        console.emit_json({"output": None if dry_run else str(output), **report.as_dict()})
    else:
        _print(report)
    for note in report.notes:
        console.note(f"note: {note}")


def _labels(pattern: str) -> pl.DataFrame:
    """One teacher's labels, which an audit must have let pass."""
    from tiebreak import soft_labels
    from tiebreak.teach import auditing

    files = auditing.expand([pattern])
    for file in files:
        soft_labels.read_audit(file)
    table = soft_labels.read(files)
    if table["teacher"].n_unique() != 1:
        raise DataError(f"{pattern}: labels of {table['teacher'].n_unique()} teachers", expected="one teacher's")
    return table


def _print(report: MixReport) -> None:
    rows = [["rows of the pool", f"{report.pool:,}"]]
    rows += [[f"  {reason}", f"-{count:,}"] for reason, count in report.dropped.items() if count]
    rows += [
        ["pseudo-labelled rows", f"{report.kept:,}"],
        ["  their weight", f"{report.pseudo_weight:,.1f}"],
        ["  mean P(A) / P(B) / P(tie)", " / ".join(f"{x:.3f}" for x in report.mean) or "-"],
        ["votes", f"{report.votes:,}"],
        ["  their weight", f"{report.vote_weight:,.1f}"],
    ]
    console.table("what became of the pool", ("", "rows"), rows)
