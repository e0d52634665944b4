"""Tables of comparisons in and out of the commands that prepare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.prepare import Grouping

STDOUT: Final = "-"
ROW_GROUP: Final = 16_384
EXAMPLES: Final = 10

Source = Annotated[str, typer.Argument(metavar="FILE", help="Votes in any known format; - is standard input.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Table to write: .parquet or .jsonl; - writes JSON lines to stdout."),
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.json", help="Write the counts and the ids as JSON here too.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count and say what would be done; write no table.")]
Near = Annotated[
    bool,
    typer.Option("--near/--exact", help="Near-duplicates count too (MinHash LSH, then exact), or equal texts only."),
]
Threshold = Annotated[
    float,
    typer.Option(help="Jaccard similarity of word triples (0 to 1) from which texts are near-duplicates."),
]
Regroup = Annotated[
    bool, typer.Option("--regroup", help="Forget the groups that the file has; else their rows stay together.")
]


def read(source: str, form: str, mapping: list[str] | None) -> pl.DataFrame:
    """Read a file of votes in any known format."""
    from tiebreak import ingest

    table = ingest.read(source, format=form, mapping=options.parse_map(mapping))
    console.note(f"read {table.height:,} comparisons from {source}")
    return table


def check_output(output: str | None, *, dry_run: bool, as_json: bool = False) -> None:
    """Refuse, before any work, an output that could not be written."""
    if output is None:
        if not dry_run:
            raise UsageError("no output given", expected="-o FILE", mend="-o votes.parquet, or --dry-run to count only")
        return
    if output == STDOUT:
        if as_json:
            raise UsageError("--json and -o - both write to stdout", expected="one of them", mend="-o FILE with --json")
    elif not Path(output).parent.is_dir():
        raise UsageError(f"{Path(output).parent} is not a directory", mend=f"mkdir -p {Path(output).parent}")
    elif Path(output).suffix not in {".parquet", ".jsonl", ".ndjson"}:
        raise UsageError(f"{output}: unknown suffix {Path(output).suffix!r}", expected=".parquet or .jsonl")


def write(table: pl.DataFrame, output: str | None, *, dry_run: bool = False) -> None:
    """Write a table whole or not at all, and say so."""
    if dry_run or output is None:
        console.note(f"would write {table.height:,} rows" + (f" to {output}" if output else "") + " (dry run)")
        return
    if output == STDOUT:
        console.emit(table.write_ndjson().removesuffix("\n"))
        return
    from tiebreak import storage

    with storage.replacing(Path(output)) as aside:
        if Path(output).suffix == ".parquet":
            table.write_parquet(aside, compression="zstd", row_group_size=ROW_GROUP)
        else:
            table.write_ndjson(aside)
    console.note(f"wrote {table.height:,} rows to {output}")


def report(document: dict[str, Any], *, as_json: bool, to: Path | None) -> None:
    """The counts as JSON: to stdout, to a file, or nowhere."""
    if as_json:
        console.emit_json(document)
    if to is not None:
        from tiebreak import storage

        versioned = {"json_version": console.JSON_VERSION, **document}
        storage.write_text(to, json.dumps(versioned, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        console.note(f"wrote the report to {to}")


def plural(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def note_grouping(grouping: Grouping, parts: int = 5) -> None:
    """Say how rows were joined to groups, and which groups are large enough to stand in the way of a fair split."""
    rows = len(grouping.group)
    before = rows
    for kind, after in grouping.left.items():
        if after < before:
            console.note(f"  {kind}: {before:,} -> {plural(after, 'group')}")
        before = after
    console.note(f"{plural(rows, 'row')} in {plural(before, 'group')}")
    for name, size, prompts in grouping.largest:
        console.note(f"  largest: {name} with {plural(size, 'row')}, {plural(prompts, 'different prompt')}")
    if grouping.common_pairs:
        console.note(
            f"  {plural(grouping.common_pairs, 'answer pair')} under too many prompts to join their rows (Yes / No)"
        )
    if grouping.boilerplate:
        console.note(f"  {plural(grouping.boilerplate, 'word triple')} left out as boilerplate of very many texts")
    largest = grouping.largest[0][1] if grouping.largest else 1
    if largest > 1 and largest * parts > rows:
        console.say(
            f"warning: the largest group holds {largest / rows:.0%} of all rows, more than one of {parts} parts takes"
        )
