"""`tiebreak flow`."""

from __future__ import annotations

import typer

app = typer.Typer(help="A chain of commands as one resumable graph: run, plan, status, graph.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass
