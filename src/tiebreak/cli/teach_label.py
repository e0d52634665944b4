"""`tiebreak teach label`: what a teacher says of votes it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.cli.meter import Meter
    from tiebreak.predict import Progress
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
    raise NotImplementedError
