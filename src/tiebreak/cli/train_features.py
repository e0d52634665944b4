"""`tiebreak train features`: votes in, a judge bundle out, with honest figures on the way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.judges import Judge

EPILOG = """
Examples:

    tiebreak train features --data votes.parquet -o my-judge

    tiebreak train features --data mine.csv --data arena.jsonl --repeats 3 -o my-judge --name "our users"

    tiebreak train features --data split.parquet --fold 0 -o teachers/fold-0

    tiebreak predict new.csv --judge my-judge -o predictions.parquet
"""


def command(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            "-d",
            help="Votes in any known format, repeatable. The judge is for votes like those of the first file.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Times to repeat it with other folds.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the judge.")] = "features",
    support: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of a vote of the supporting files, from 0 to 1.")
    ] = 0.1,
    licence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE=LICENCE", help="Licence of a file (its name without suffix), repeatable, for the card."
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default=False,
            help="Train on the rows whose column fold is another number: a teacher for the rows of this one.",
        ),
    ] = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check the votes, say what would be done, stop.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Train a judge on counted properties of the answers, and measure it by grouped cross-validation."""
    from tiebreak import train

    votes = read_votes(data, input_format, options.parse_map(mapping))
    recipe = train.Recipe(
        name=name,
        folds=folds,
        repeats=repeats,
        seed=seed,
        support=support,
        licences=licences_of(licence, votes),
        command=command_line(),
        fold=fold,
    )
    usable = train.check_votes(votes, recipe)
    held = 0 if fold is None else (votes["fold"] == fold).sum()
    console.note(
        f"{votes.height:,} rows, {votes.height - usable.height - held:,} without a label left out"
        f"{f', {held:,} of fold {fold} held out' if held else ''}; {usable['group'].n_unique():,} groups"
    )
    if dry_run:
        console.note(f"would fit {folds * repeats + 1} times and write the bundle to {output}")
        return
    with console.progress("train", total=folds * repeats + 1, unit="fits") as advance:
        judge = train.train_features(votes, recipe, advance=advance)
    judge.save(output)
    _report(judge, output, as_json)


def read_votes(files: list[Path], form: str, mapping: dict[str, str]) -> pl.DataFrame:
    """All files in one table: the source of a row is its file, its group is found over all files together."""
    import polars as pl

    from tiebreak import ingest, prepare

    names = [file.name.split(".")[0] for file in files]
    if len(set(names)) < len(names):
        raise UsageError(f"two files have the same name: {', '.join(names)}", expected="names that tell sources apart")
    tables = [
        ingest.read(file, format=form, mapping=mapping).with_columns(source=pl.lit(source))
        for file, source in zip(files, names, strict=True)
    ]
    votes = pl.concat(tables)
    return votes.with_columns(group=prepare.groups(votes))


def licences_of(pairs: list[str] | None, votes: pl.DataFrame) -> dict[str, str]:
    """`FILE=LICENCE` pairs by source.

    Raises:
        UsageError: A pair names no source of the votes.
    """
    licences = {}
    for pair in pairs or []:
        source, equals, licence = pair.partition("=")
        if not equals or source not in votes["source"]:
            raise UsageError(
                f"--licence {pair!r}", expected=f"FILE=LICENCE, FILE one of {', '.join(votes['source'].unique())}"
            )
        licences[source] = licence
    return licences


def command_line() -> str:
    """What was typed, without the directories of this machine."""
    import shlex

    return shlex.join(["tiebreak", *(Path(part).name if "/" in part else part for part in sys.argv[1:])])


def _report(judge: Judge, output: Path, as_json: bool) -> None:
    from tiebreak.train import shown

    figures: dict[str, Any] = judge.manifest.metrics
    if as_json:
        console.emit_json({"bundle": str(output), "name": judge.manifest.name, "metrics": figures})
        return
    rows = [
        [name, f"{own['rows']:,}", shown(own["log_loss"]), f"{own['prior_log_loss']:.4f}", shown(own["accuracy"])]
        for name, own in figures.items()
    ]
    console.table("held-out votes", ["source", "votes", "log-loss", "prior", "accuracy"], rows)
    console.note(f"wrote {output}")
