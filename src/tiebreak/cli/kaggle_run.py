"""`tiebreak kaggle run`: the notebook of a pack, run here as Kaggle would, and everything that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import console, options, rehearsing
from tiebreak.errors import UsageError
from tiebreak.stopping import stoppable

EPILOG = """
Examples:

    tiebreak kaggle run out -o run --test test.csv

    tiebreak kaggle run out -o run --test test.csv --rows 25000 --hours 9

    tiebreak kaggle run out -o run --rows 2000 --memory 8 --json
"""


def command(
    pack: rehearsing.Pack,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the submission, the log and all else that it writes.")
    ],
    test: rehearsing.Test = None,
    sample: rehearsing.Sample = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, show_default=False,
            help="Draw so many rows from the test file, with replacement, under new ids: a hidden test set.",
        ),
    ] = None,
    base: rehearsing.Base = None,
    memory: rehearsing.Memory = 30.0,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0.0, rich_help_panel=rehearsing.WALLS, show_default=False,
            help="Hours that Kaggle would give it; the notebook is told a little less. [default: as packed]",
        ),
    ] = None,
    isolation: rehearsing.Isolation = "auto",
    interpreter: rehearsing.Interpreter = None,
    mounts: rehearsing.Mounts = "new",
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Run the notebook of a pack as Kaggle would; keep the submission, the log, the notebook with its outputs."""
    from tiebreak.kaggle import rehearse
    from tiebreak.kaggle.layout import Layout

    rehearsing.settle(isolation, mounts)
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent} is not a directory", mend=f"mkdir -p {output.parent}")
    with stoppable():
        ran = rehearse.run(
            Layout(pack), test=test, sample=sample, rows=rows, memory=memory, hours=hours, keep=output, base=base,
            isolation=isolation, interpreter=interpreter, mounts=mounts, listener=rehearsing.listener(),  # type: ignore[arg-type]
        )  # fmt: skip
    if not console.is_quiet():
        rehearsing.stages(ran)
    console.note(f"network: {ran.walls}; tried by the notebook: {ran.connections}")
    by = f", {ran.rows_otherwise:,} of them by the cheaper judge ({ran.reason})" if ran.rows_otherwise else ""
    console.note(f"wrote {ran.rows:,} rows{by} to {ran.submission}; {rehearsing.peak(ran)}")
    if as_json:
        console.emit_json(ran.as_dict())
