"""`tiebreak teach mix`: people's votes and a teacher's labels of unlabelled pairs as one table to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import options

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
    raise NotImplementedError
