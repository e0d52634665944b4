"""`tiebreak data stats`: what is in a file of votes, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tiebreak.cli import console, options, tables

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.prepare import Leak, Stats

EPILOG = """
Examples:

    tiebreak data stats votes.parquet

    tiebreak data stats train.csv --json | jq .labels

    tiebreak data stats mine.jsonl --map prompt=question --map response_a=x --map response_b=y --report stats.json
"""

_VOTES: Final = ("label", "winner", "winner_model_a", "winner_model_b", "winner_tie")


def command(
    source: tables.Source,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    report: tables.ReportFile = None,
    as_json: options.Json = False,
) -> None:
    """Rows, labels, lengths, scripts, models, duplicates, odd rows, and columns that give the label away."""
    from tiebreak import prepare

    table = tables.read(source, input_format, mapping)
    figures = prepare.stats(table)
    leaks = _leaks(source, table, options.parse_map(mapping))
    if not as_json:
        _show(figures)
    for leak in leaks or []:
        console.say(f"{'warning' if leak.level == 'leak' else 'remark'}: column {leak}")
    document = {**figures.as_dict(), "leaks": None if leaks is None else [leak.as_dict() for leak in leaks]}
    tables.report(document, as_json=as_json, to=report)


def _leaks(source: str, table: pl.DataFrame, mapping: dict[str, str]) -> list[Leak] | None:
    """Leaks among all columns of the file as it is, not only those our table carries; None if it cannot be read."""
    from tiebreak import prepare

    raw = None if source == tables.STDOUT else _raw(Path(source))
    if raw is None or raw.height != table.height:
        console.note("the columns beyond our own could not be looked at for leaks of the label")
        return None
    votes = {*_VOTES, mapping.get("label", "label")}
    return prepare.leaks(raw.drop(*votes, strict=False), table["label"])


def _raw(path: Path) -> pl.DataFrame | None:
    import polars as pl

    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    try:
        if suffix == "parquet":
            return pl.read_parquet(path)
        if suffix in {"jsonl", "ndjson"}:
            return pl.read_ndjson(path, infer_schema_length=None)
        if suffix in {"csv", "tsv"}:
            separator = "\t" if suffix == "tsv" else ","
            return pl.read_csv(path, encoding="utf8-lossy", infer_schema_length=None, separator=separator)
    except (pl.exceptions.PolarsError, OSError):
        return None
    return None


def _show(figures: Stats) -> None:
    rows = figures.rows
    console.table(
        "Labels", ("", "rows", "share"), [(name, f"{n:,}", _share(n, rows)) for name, n in figures.labels.items()]
    )
    facts: dict[str, Any] = {
        "rows": rows,
        "rows with a soft label": figures.soft,
        "log-loss of the label shares alone": _number(figures.prior_log_loss),
        "votes for the longer answer": _of(figures.longer_wins),
        "votes for the first answer (A)": _of(figures.first_wins),
        "rows that are copies of another": figures.duplicates["rows"],
        "different prompts": figures.duplicates["prompts"],
        "different answer pairs": figures.duplicates["pairs"],
        **{f"rows with {name}" if name == "no prompt" else f"answers {name}": n for name, n in figures.answers.items()},
    }
    if figures.groups["groups"]:
        facts |= {"groups": figures.groups["groups"], "rows in the largest group": figures.groups["largest"]}
        facts |= {"groups in several folds": figures.groups["in several folds"]}
    console.table("Figures", ("", "value"), [(n, f"{v:,}" if isinstance(v, int) else v) for n, v in facts.items()])
    lengths = [
        (name, *(f"{value:,.0f}" for value in quantiles.values()))
        for name, quantiles in figures.lengths.items()
        if quantiles
    ]
    if lengths:
        console.table("Lengths", ("", *next(iter(figures.lengths.values()))), lengths)
    for title, counted in (
        ("Turns", figures.turns), ("Scripts of the prompts", figures.scripts), ("Folds", figures.folds),
        ("Sources", figures.sources), ("Nulls", {name: n for name, n in figures.nulls.items() if n < rows}),
    ):  # fmt: skip
        _counted(title, list(counted.items()), rows)
    if figures.models:
        models = [(name, f"{n:,}", _number(won)) for name, (n, won) in figures.models.items()]
        console.table("Models (the most frequent)", ("", "rows", "share won"), models)


def _counted(title: str, counted: Sequence[tuple[Any, int]], rows: int, most: int = 12) -> None:
    if not counted:
        return
    shown = [(str(name), f"{n:,}", _share(n, rows)) for name, n in counted[:most]]
    if len(counted) > most:
        rest = sum(n for _, n in counted[most:])
        shown.append((f"... {len(counted) - most} more", f"{rest:,}", _share(rest, rows)))
    console.table(title, ("", "rows", "share"), shown)


def _share(count: int, rows: int) -> str:
    return f"{count / rows:.1%}" if rows else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _of(share: tuple[float | None, int]) -> str:
    return "-" if share[0] is None else f"{share[0]:.1%} of {share[1]:,}"
