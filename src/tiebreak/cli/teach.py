"""`tiebreak teach`: from teachers to soft labels that a student may learn from."""

from __future__ import annotations

import typer

from tiebreak.cli import teach_audit, teach_combine, teach_label, teach_mix, teach_synthesize

app = typer.Typer(
    help="Teachers: label rows, audit the labels, make one soft label of several, mix them with votes, "
    "synthesize new pairs.",
    epilog="Start: tiebreak teach label votes.parquet --judge teachers -o labels.parquet --dry-run",
    no_args_is_help=True,
)
app.command("label", epilog=teach_label.EPILOG)(teach_label.command)
app.command("audit", epilog=teach_audit.EPILOG)(teach_audit.command)
app.command("combine", epilog=teach_combine.EPILOG)(teach_combine.command)
app.command("mix", epilog=teach_mix.EPILOG)(teach_mix.command)
app.command("synthesize", epilog=teach_synthesize.EPILOG)(teach_synthesize.command)
