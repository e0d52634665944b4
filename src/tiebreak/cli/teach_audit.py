"""`tiebreak teach audit`: are these labels fit to be learned from?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import options

EPILOG = """
Examples:

    tiebreak teach audit labels.parquet --votes votes.parquet

    tiebreak teach audit "labels.shard-*.parquet" --votes votes.parquet --json

    tiebreak teach audit teacher.csv --votes votes.parquet --columns m1_a,m1_b,m1_tie -o labels.parquet

    tiebreak teach audit teacher.parquet --votes votes.parquet --logits z_a,z_b,z_tie

    tiebreak teach audit labels.parquet --votes votes.parquet --force
"""


def command(
    labels: Annotated[
        list[str],
        typer.Argument(metavar="LABELS...", help="The labels of ONE teacher: a file, its shards, or a quoted glob."),
    ],
    votes: Annotated[Path, typer.Option("--votes", help="The comparisons that were labelled, with people's votes.")],
    require_all: Annotated[
        bool,
        typer.Option(
            "--require-all/--labelled-only", help="A label for every comparison, or only for those people voted on."
        ),
    ] = True,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,TIE", help="A foreign table: the names of its three columns of probabilities."),
    ] = None,
    logits: Annotated[
        str | None,
        typer.Option(metavar="A,B,TIE", help="A foreign table: the names of its three columns of logits."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a foreign table as labels.parquet that can be trained on."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of a foreign teacher. [default: the file's name]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Use the labels whatever is found; the student's bundle will say so.")
    ] = False,
    allow_in_sample: Annotated[
        bool, typer.Option("--allow-in-sample", help="Labels of rows that the teacher was trained on are no fault.")
    ] = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Look for what makes a teacher unfit, and write LABELS.audit.json beside the labels, which training asks for.

    Refused (exit code 6): rows without a label, doubled ids, labels of other rows or in another order, a teacher no
    better than the class shares, one that says the same of every row, one that tells lengths, made-up ties, and labels
    of the teacher's own training rows.
    """
    raise NotImplementedError
