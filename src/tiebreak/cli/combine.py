"""`tiebreak combine`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Several judges as one: adapters, merge, blend.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass
