"""`tiebreak teach`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Teachers: label rows, audit the labels, make one soft label of several.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass
