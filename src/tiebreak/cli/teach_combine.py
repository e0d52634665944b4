"""`tiebreak teach combine`: several teachers calibrated and made one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import options

EPILOG = """
Examples:

    tiebreak teach combine llama.parquet qwen.parquet --votes votes.parquet -o labels.parquet

    tiebreak teach combine llama.parquet --votes votes.parquet --calibrate vector -o calibrated.parquet

    tiebreak teach combine "llama.shard-*.parquet" qwen.parquet --votes votes.parquet --method weights -o both.parquet

Every table must have passed `tiebreak teach audit` (or be used by --force). The result is audited too.
"""


def command(
    labels: Annotated[
        list[str],
        typer.Argument(metavar="LABELS...", help="One table a teacher; shards of one teacher as a quoted glob."),
    ],
    votes: Annotated[Path, typer.Option("--votes", help="The comparisons that were labelled, with people's votes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The combined labels (.parquet).")],
    calibration: Annotated[
        str,
        typer.Option(
            "--calibrate",
            help="Family fitted to each teacher: symmetric, temperature, vector, dirichlet, dirichlet-symmetric, none.",
        ),
    ] = "symmetric",
    method: Annotated[
        str,
        typer.Option(help="Mean of probabilities, mean of logits, or weights fitted to the votes (simplex, logits)."),
    ] = "probabilities",
    name: Annotated[
        str | None, typer.Option(help="Name of the result. [default: the teachers' names joined by +]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of folds and resamples.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Overrule audits, the collapse alarm and the least rows; recorded.")
    ] = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and print, write nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Calibrate each teacher without letting a row's vote touch its own label, and pool them into one soft label."""
    raise NotImplementedError
