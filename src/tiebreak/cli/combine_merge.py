"""`tiebreak combine merge`: an adapter merged into its base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import options

EPILOG = """
Examples:

    tiebreak combine merge student -o merged --validation held-out.parquet

    tiebreak combine merge student -o merged --dtype fp32 --json
"""


def command(
    judge: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A judge with an adapter.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    validation: Annotated[
        Path | None, typer.Option(help="Comparisons for the parity figure. [default: the built-in samples]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it although its predictions moved; recorded.")] = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Merge an adapter into its base, in fp32, and say how far the predictions moved."""
    raise NotImplementedError
