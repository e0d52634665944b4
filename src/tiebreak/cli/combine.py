"""`tiebreak combine`: several judges as one."""

from __future__ import annotations

import typer

from tiebreak.cli import combine_adapters, combine_blend, combine_cascade, combine_merge

app = typer.Typer(help="Several judges as one: adapters, merge, blend, cascade.", no_args_is_help=True)
app.command("adapters", epilog=combine_adapters.EPILOG)(combine_adapters.command)
app.command("merge", epilog=combine_merge.EPILOG)(combine_merge.command)
app.command("blend", epilog=combine_blend.EPILOG)(combine_blend.command)
app.command("cascade", epilog=combine_cascade.EPILOG)(combine_cascade.command)
