"""`tiebreak data split`: folds, or parts such as train and test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options, tables
from tiebreak.cli.tables import plural
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

EPILOG = """
Examples:

    tiebreak data split votes.parquet --folds 5 -o folded.parquet

    tiebreak data split votes.parquet --fractions train=.8,valid=.1,test=.1 --seed 7 -o parts

    tiebreak data split votes.parquet --folds 5 --dry-run
"""


def command(
    source: tables.Source,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="With --folds the table to write, with --fractions a directory."),
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Fill the column `fold` with 0 to N - 1.")] = None,
    fractions: Annotated[
        str | None,
        typer.Option(metavar="NAME=SHARE,...", help="Write one file a part, such as train=.8,test=.2 (sum 1)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses among equally good splits.")] = 0,
    stratify: Annotated[bool, typer.Option(help="Spread the labels evenly, not only the rows.")] = True,
    twins: Annotated[
        bool, typer.Option("--twins", help="Follow each row by its swapped twin, in the same fold or part.")
    ] = False,
    near: tables.Near = True,
    threshold: tables.Threshold = 0.8,
    regroup: tables.Regroup = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    report: tables.ReportFile = None,
    dry_run: tables.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Split by groups, so that equal or nearly equal texts never stand on both sides, with the labels spread evenly.

    The same rows and seed give the same split, in whatever order the rows stand.
    """
    if (folds is None) == (fractions is None):
        raise UsageError("a split into what?", expected="either --folds N or --fractions NAME=SHARE,...")
    if folds is not None:
        tables.check_output(output, dry_run=dry_run, as_json=as_json)
    elif output is None and not dry_run:
        raise UsageError("no output given", expected="-o DIRECTORY", mend="-o parts, or --dry-run to count only")
    shares = _shares(fractions) if fractions is not None else {}
    from tiebreak import prepare

    table = tables.read(source, input_format, mapping)
    grouped = prepare.grouping(table, near=near, threshold=threshold, keep_given=not regroup)
    tables.note_grouping(grouped, folds or len(shares))
    table = table.with_columns(grouped.group)
    finish = prepare.twins if twins else _as_it_is
    parts: dict[str, pl.DataFrame]
    if folds is not None:
        table = finish(table.with_columns(prepare.folds(table, folds, seed=seed, stratify=stratify)))
        parts = {f"fold {number}": table.filter(table["fold"] == number) for number in range(folds)}
    else:
        split = prepare.split(table, fractions=shares, seed=seed, stratify=stratify)
        parts = {name: finish(part) for name, part in split.items()}
    counts = {name: _counts(part) for name, part in parts.items()}
    for name, of in counts.items():
        labels = ", ".join(f"{label} {count:,}" for label, count in of["labels"].items() if count)
        console.note(f"  {name}: {plural(of['rows'], 'row')}, {plural(of['groups'], 'group')}; labels: {labels}")
    if folds is not None:
        tables.write(table, output, dry_run=dry_run)
    else:
        _write_parts(parts, output, dry_run)
    document = {"seed": seed, "stratify": stratify, "twins": twins, "parts": counts, "grouping": grouped.as_dict()}
    tables.report(document, as_json=as_json, to=report)


def _shares(text: str) -> dict[str, float]:
    shares = {}
    for item in text.split(","):
        name, equals, share = (piece.strip() for piece in item.partition("="))
        try:
            value = float(share)
        except ValueError:
            value = float("nan")
        # The name becomes the name of a file.
        if not (equals and name.replace("-", "").replace("_", "").isalnum()) or value != value or name in shares:
            raise UsageError(
                f"--fractions {item!r}", expected="NAME=SHARE,... with different names, as in train=.8,test=.2"
            )
        shares[name] = value
    return shares


def _as_it_is(table: pl.DataFrame) -> pl.DataFrame:
    return table


def _counts(part: pl.DataFrame) -> dict[str, Any]:
    labels = dict(sorted(Counter(label or "none" for label in part["label"].to_list()).items()))
    return {"rows": part.height, "groups": part["group"].n_unique(), "labels": labels}


def _write_parts(parts: dict[str, pl.DataFrame], output: str | None, dry_run: bool) -> None:
    if dry_run or output is None:
        for name, part in parts.items():
            tables.write(part, f"{output or 'parts'}/{name}.parquet", dry_run=True)
        return
    directory = Path(output)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{output} is a file", expected="a directory for the parts")
    directory.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        tables.write(part, str(directory / f"{name}.parquet"))
