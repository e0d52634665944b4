"""`tiebreak demo`: the whole way in one command, on the votes that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console

if TYPE_CHECKING:
    import polars as pl

EPILOG = """
Example:

    tiebreak demo -o out/demo
"""
SHOWN = 12


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for votes, predictions and report.")],
) -> None:
    """Predict the sample votes, show the quality table, and write a report to look at."""
    from tiebreak import evaluation, judges, samples
    from tiebreak.cli import evaluate
    from tiebreak.predict import write

    output.mkdir(parents=True, exist_ok=True)
    votes, judge = samples.votes(), judges.load()
    with console.progress("predict", total=votes.height) as advance:
        table = judge.predict(votes)
        advance(votes.height)
    votes.write_parquet(output / "votes.parquet")
    write.write(table, output / "predictions.parquet", "parquet")
    _show(votes, table)
    report = evaluation.evaluate(table, votes)
    report.write(output / "report")
    console.emit("")
    evaluate.show(report)
    console.emit("")
    console.emit(f"votes        {output / 'votes.parquet'}")
    console.emit(f"predictions  {output / 'predictions.parquet'}")
    console.emit(f"report       {output / 'report' / 'index.html'}")


def _show(votes: pl.DataFrame, table: pl.DataFrame) -> None:
    rows = []
    step = max(votes.height // SHOWN, 1)
    for vote, row in list(zip(votes.iter_rows(named=True), table.iter_rows(named=True), strict=True))[::step][:SHOWN]:
        prompt = " ".join((vote["prompt"][0] or "").split())
        excerpt = prompt if len(prompt) <= 56 else prompt[:55] + "…"
        figures = [f"{row[name]:.2f}" for name in ("p_a", "p_b", "p_tie")]
        rows.append([f"{row['id']}  {excerpt}", *figures, row["label"], vote["label"] or ""])
    title = f"predictions ({len(rows)} of {votes.height})"
    console.table(title, ("comparison", "P(A)", "P(B)", "P(tie)", "verdict", "vote"), rows)
