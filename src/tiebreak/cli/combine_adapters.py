"""`tiebreak combine adapters`: the judges of several folds as one judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import options

EPILOG = """
Examples:

    tiebreak combine adapters folds/fold-0 folds/fold-1 folds/fold-2 --validation held-out.parquet -o student

    tiebreak combine adapters folds/fold-* --method svd:64 --weights oof --validation held-out.parquet -o student

    tiebreak combine adapters folds/fold-* --method tensors --weights 2,1,1 --validation held-out.csv -o student --json

The validation votes should be ones that no fold was trained on; rows that one was trained on are left out and counted.
"""


def command(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Judges of one student, one a fold.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    validation: Annotated[Path, typer.Option(help="Votes that no judge was trained on, in any known format.")],
    method: Annotated[
        str, typer.Option(help="tensors, exact, svd:RANK, merged, or best (docs/combine.md says which that is).")
    ] = "best",
    weights: Annotated[
        str, typer.Option(help="equal, oof (by the judges' own held-out log-loss), or a number a judge: 2,1,1.")
    ] = "equal",
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the validation rows by id, where they lie in another file.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="A .json file for the table of figures.")] = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Average the judges of several folds into one, four ways, and say on held-out votes what each way costs."""
    raise NotImplementedError
