"""`tiebreak baselines`: where a judge stands on your votes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, judged, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.baselines import Ladder, Rung

EPILOG = """
Examples:

    tiebreak baselines votes.parquet

    tiebreak baselines votes.parquet --repeats 3 -o ladder.csv

    tiebreak baselines votes.parquet --predictions mine=predictions.parquet --predictions llm=llm.csv

    tiebreak baselines votes.parquet --only length --only judge --judge my-judge --json
"""


def command(
    votes: Annotated[Path, typer.Argument(metavar="VOTES", help="Votes with labels, in any known format.")],
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--predictions",
            "-p",
            metavar="NAME=FILE",
            help="Predictions of a model of yours for the same votes, to be put on the ladder; repeatable.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="This rung only: uniform, prior, length, features, tfidf or judge; repeatable."),
    ] = None,
    judge: options.Judge = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the table here too (.csv).")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often to draw the folds anew.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of folds, learners and resamples.")] = 0,
    limit: options.Limit = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Measure simple judges on votes, from a uniform guess to the embedded judge, in one table with intervals.

    Rungs that learn are judged by grouped cross-validation on these votes. Rungs whose extra is not installed are
    named, and the others measured all the same.
    """  # fmt: skip
    from tiebreak import baselines, ingest, judges

    if output is not None and output.suffix.lower() != ".csv":
        raise UsageError(f"-o {output}", expected="a .csv file")
    files = _named(predictions)
    table = ingest.read(votes, format=input_format, mapping=options.parse_map(mapping))
    table = table.head(limit) if limit else table
    if dry_run:
        wanted = ", ".join((*(only or baselines.TITLES), *files))
        console.note(f"would measure {wanted} on {table.height:,} votes, {folds} folds x {repeats}")
        return
    given = {name: _read(file, table) for name, file in files.items()}
    loaded = judges.load(judge) if judge else None
    learners = len(set(only or baselines.TITLES) - {"uniform", "judge"})
    with console.progress("baselines", total=learners * folds * repeats, unit="fits") as advance:
        ladder = baselines.ladder(
            table, folds=folds, repeats=repeats, seed=seed, only=only or (), judge=loaded, predictions=given,
            advance=advance,
        )  # fmt: skip
    _report(ladder, output, as_json)


def _named(pairs: list[str] | None) -> dict[str, Path]:
    files = {}
    for pair in pairs or []:
        name, equals, file = pair.partition("=")
        if not (name and equals and file) or name in files:
            raise UsageError(f"--predictions {pair!r}", expected="NAME=FILE, each name once")
        files[name] = Path(file)
    return files


def _read(path: Path, votes: pl.DataFrame) -> pl.DataFrame:
    """A prediction table; with `--limit`, the part of it that belongs to the votes left."""
    import polars as pl

    return judged.predictions(path).filter(pl.col("id").is_in(votes["id"].implode()))


def _report(ladder: Ladder, output: Path | None, as_json: bool) -> None:
    if output is not None:
        from tiebreak import storage

        storage.write_text(output, ladder.frame().write_csv())
        console.note(f"wrote {output}")
    if as_json:
        console.emit_json(ladder.to_json())
    else:
        console.table(
            f"{ladder.rows:,} votes in {ladder.groups:,} groups, {ladder.folds} folds x {ladder.repeats}, "
            "95 % intervals",
            ("", "log-loss", "to the one above", "accuracy", "Brier", "ECE"),
            [_line(rung) for rung in ladder.rungs],
        )
    for rung in ladder.rungs:
        if rung.missing:
            console.say(f"note: {rung.title} needs {rung.missing}")
        for remark in rung.remarks:
            console.say(f"warning: {rung.title}: {remark}")


def _line(rung: Rung) -> list[str]:
    if not rung.metrics:
        return [rung.title, "not measured: needs an extra", "", "", "", ""]
    gap = rung.difference
    signed = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]" if gap else ""
    title = rung.title + (" (!)" if rung.remarks else "")
    figures = rung.metrics
    return [title, str(figures["log_loss"]), signed, *(str(figures[name]) for name in ("accuracy", "brier", "ece"))]
