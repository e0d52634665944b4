"""`tiebreak kaggle`: the group of its commands."""

from __future__ import annotations

import typer

from tiebreak.cli import (
    kaggle_check,
    kaggle_init,
    kaggle_pack,
    kaggle_pull,
    kaggle_push,
    kaggle_run,
    kaggle_status,
)

app = typer.Typer(
    help="From a judge to a Kaggle submission without internet: init, pack, check, run, push, pull, status.",
    epilog="Start: tiebreak kaggle pack --competition llm-classification-finetuning --user NAME -o out",
    no_args_is_help=True,
)
app.command("init", epilog=kaggle_init.EPILOG)(kaggle_init.command)
app.command("pack", epilog=kaggle_pack.EPILOG)(kaggle_pack.command)
app.command("check", epilog=kaggle_check.EPILOG)(kaggle_check.command)
app.command("run", epilog=kaggle_run.EPILOG)(kaggle_run.command)
app.command("push", epilog=kaggle_push.EPILOG)(kaggle_push.command)
app.command("pull", epilog=kaggle_pull.EPILOG)(kaggle_pull.command)
app.command("status", epilog=kaggle_status.EPILOG)(kaggle_status.command)
