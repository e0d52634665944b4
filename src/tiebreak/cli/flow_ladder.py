"""`tiebreak flow ladder`: predictions of one chain, step by step, on the same votes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.flow.ladder import Ladder, Rung
    from tiebreak.scoring import Estimate

EPILOG = """
Examples:

    tiebreak flow ladder teacher=teacher.parquet student=student.parquet --labels votes.parquet

    tiebreak flow ladder single=one.parquet "both orders=two.parquet" --labels votes.parquet -o ladder --json
"""


def command(
    rungs: Annotated[
        list[str], typer.Argument(metavar="NAME=PREDICTIONS...", help="Tables of predictions or labels, step by step.")
    ],
    labels: Annotated[Path, typer.Option("--labels", "-l", help="Votes that none of them was trained on.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for the page, the picture, and the table.")
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(help="Votes whose class shares are the first rung. [default: the labels]", show_default=False),
    ] = None,
    resamples: Annotated[int, typer.Option(min=10, help="Resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Log-loss of every step of a chain with its interval, and what each step brought over the one before."""
    from tiebreak.cli import judged
    from tiebreak.flow import ladder

    files = _named(rungs)
    votes = judged.votes(labels, input_format, mapping)
    given = None if prior is None else judged.votes(prior, input_format, mapping)
    tables = {name: _table(file) for name, file in files.items()}
    found = ladder.ladder(tables, votes, prior=given, resamples=resamples, seed=seed)
    if as_json:
        console.emit_json(found.to_dict())
    else:
        show(found)
    if output is not None:
        console.note(f"wrote {found.write(output)}")


def show(found: Ladder) -> None:
    """The table to stdout."""
    console.table(
        f"{found.votes:,} votes in {found.groups:,} groups, 95 % intervals",
        ("", "log-loss", "to the rung before", "to the prior", "accuracy", "ECE"),
        [_line(rung) for rung in found.rungs],
    )


def _line(rung: Rung) -> list[str]:
    gaps = (_signed(rung.change), _signed(rung.gain))
    return [rung.name, str(rung.log_loss), *gaps, str(rung.accuracy), f"{rung.ece:.4f}"]


def _table(path: Path) -> pl.DataFrame:
    """A table, or those of a pattern under each other: labels come in shards."""
    import polars as pl

    from tiebreak.cli import judged

    found = sorted(path.parent.glob(path.name)) if not path.exists() and "*" in path.name else [path]
    if not found:
        raise UsageError(f"no file matches {path}", expected="a table of predictions or labels")
    return pl.concat([judged.predictions(file) for file in found], how="diagonal")


def _named(pairs: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (name and equals and file) or name in files:
            raise UsageError(f"rung {pair!r}", expected="NAME=FILE, each name once")
        files[name] = Path(file)
    return files


def _signed(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"
