"""`tiebreak combine blend`: prediction tables of several judges as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import options

EPILOG = """
Examples:

    tiebreak combine blend small.parquet large.parquet --labels votes.parquet -o blended.parquet

    tiebreak combine blend small=s.csv large=l.csv --labels votes.csv --space logits -o blended.csv --json
"""


def command(
    tables: Annotated[list[str], typer.Argument(metavar="PREDICTIONS...", help="Tables of one set of comparisons.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .parquet, .csv or .jsonl.")],
    labels: Annotated[
        Path | None, typer.Option(help="Votes for the same ids: any votes file, or id and label.")
    ] = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Blend the predictions of several judges by weights that suit the votes."""
    raise NotImplementedError
