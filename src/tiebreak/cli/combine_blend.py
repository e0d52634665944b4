"""`tiebreak combine blend`: prediction tables of several judges as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import combining, console, judged, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.combine.blend import Blend

EPILOG = """
Examples:

    tiebreak combine blend small.parquet large.parquet --labels votes.parquet -o blended.parquet

    tiebreak combine blend small=s.csv large=l.csv --labels votes.csv --space logits -o blended.csv --json

    tiebreak combine blend small=s-test.csv large=l-test.csv --apply blended.weights.json -o test.csv

The predictions must be out of fold: made by judges that were not trained on these votes.
"""


def command(
    tables: Annotated[
        list[str], typer.Argument(metavar="[NAME=]PREDICTIONS...", help="Tables of one set of comparisons.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .parquet, .csv or .jsonl.")],
    labels: Annotated[
        Path | None, typer.Option(help="Votes for the same ids: any votes file, or just id and label.")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", metavar="WEIGHTS", help="Use saved weights; nothing is fitted.")
    ] = None,
    space: Annotated[str, typer.Option(help="What is averaged: probabilities or logits.")] = "probabilities",
    rule: Annotated[
        str,
        typer.Option(help="equal, single (the best table), fitted, or best: the simplest within noise of the lowest."),
    ] = "best",
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of folds and resamples.")] = 0,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Blend the predictions of several judges by weights that suit the votes, and say what each way is worth.

    The weights are kept beside the output, in OUTPUT.weights.json, and can be used on other predictions with --apply.
    """  # fmt: skip
    from tiebreak.combine import blend as blending
    from tiebreak.predict import format_of
    from tiebreak.predict.write import write

    form = format_of(str(output))
    if (labels is None) == (apply is None):
        raise UsageError("--labels and --apply", expected="one of them: votes to fit weights to, or weights to use")
    named = _named(tables)
    read = {name: judged.predictions(path) for name, path in named.items()}
    if apply is not None:
        blend = blending.load(apply)
        read = _matched(read, blend)
        votes = None
    else:
        assert labels is not None  # noqa: S101 - one of both is there
        votes = judged.votes(labels, input_format, mapping)
        blend = blending.fit(read, votes, space=space, rule=rule, folds=folds, seed=seed)  # type: ignore[arg-type]
    done = blending.apply(blend, list(read.values()), votes)
    write(done, output, form)
    kept = output.with_name(f"{output.stem}.weights.json")
    if apply is None:
        blending.save(blend, kept)
    if as_json:
        console.emit_json({"output": str(output), "blend": blend.model_dump(mode="json")})
    elif apply is None:
        _show(blend)
    console.note(f"wrote {done.height:,} predictions to {output}" + ("" if apply else f", and {kept}"))


def _named(tables: list[str]) -> dict[str, Path]:
    """Tables by name; without one, by the stem of the file."""
    found: dict[str, Path] = {}
    for text in tables:
        name, equals, path = text.partition("=")
        place = Path(path if equals else text)
        name = name if equals else place.stem
        if name in found:
            raise UsageError(f"two tables are called {name!r}", expected="a name of its own for each", mend="NAME=FILE")
        found[name] = place
    return found


def _matched(read: dict[str, Any], blend: Blend) -> dict[str, Any]:
    """The tables in the order of the weights: by name where the names are those, else in the order given."""
    if set(read) == set(blend.names):
        return {name: read[name] for name in blend.names}
    pairs = ", ".join(f"{theirs} as {ours}" for theirs, ours in zip(read, blend.names, strict=False))
    console.note(f"  tables are taken in the order given: {pairs}")
    return read


def _show(blend: Blend) -> None:
    study: dict[str, Any] = blend.study
    rows = [
        [name, combining.estimate(one["log_loss"]), "", f"{one['fitted']:.3f}", _range(one["fitted_by_fold"])]
        for name, one in study["tables"].items()
    ]
    rows += [
        [name + (" *" if name == blend.rule else ""), combining.estimate(one["log_loss"]),
         combining.estimate(one["change"], signed=True), "", ""]
        for name, one in study["rules"].items()
    ]  # fmt: skip
    console.table(
        f"{study['rows']:,} votes in {study['groups']:,} groups, out of fold, 95 % intervals (* kept)",
        ("table or rule", "log-loss", "against equal", "fitted weight", "over folds"),
        rows,
    )
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(blend.names, blend.weights, strict=True))
    console.emit(f"\nkept: {blend.rule}, mean of {blend.space}: {weights}")


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"
