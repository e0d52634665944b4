"""`tiebreak combine blend`: what several judges say as one answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import combining, composing, console, judged, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.combine.asking import Opinion
    from tiebreak.combine.blend import Blend

EPILOG = """
Examples:

    tiebreak combine blend small.parquet large.parquet --labels votes.parquet -o blended.parquet

    tiebreak combine blend small=s.csv large=l.csv --labels votes.csv --space logits -o blended.csv --json

    tiebreak combine blend embedded small-judge --labels votes.parquet -o both

    tiebreak combine blend small=oof.parquet@small-judge large=p.csv#m1_a,m1_b,m1_tie@large-judge --labels v.csv -o both

    tiebreak combine blend small=s-test.csv large=l-test.csv --apply blended.weights.json -o test.csv

The predictions must be out of fold: made by judges that were not trained on these votes.
"""


def command(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PREDICTIONS|JUDGE...",
            help="Tables for one set of comparisons (FILE#A,B,TIE names columns), judges to ask, or both: "
            "PREDICTIONS@JUDGE.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A table (.parquet, .csv or .jsonl), or a folder for a bundle.")
    ],
    labels: composing.Labels = None,
    apply: Annotated[
        Path | None,
        typer.Option("--apply", metavar="WEIGHTS", help="Use saved weights (file or bundle); nothing is fitted."),
    ] = None,
    space: Annotated[str, typer.Option(help="What is averaged: probabilities or logits.")] = "probabilities",
    rule: Annotated[
        str,
        typer.Option(
            help="equal, single (the best table), fitted, sliced, or best: the simplest within noise of the lowest."
        ),
    ] = "best",
    slices: Annotated[
        str | None,
        typer.Option(
            metavar="BY",
            show_default=False,
            help="Weigh slices apart as well: by agreement (of the verdicts), turns or length.",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of folds and resamples.")] = 0,
    in_sample: composing.InSample = False,
    refer: composing.Refer = False,
    name: composing.Name = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    backend: options.Backend = None,
    server: options.Server = None,
    as_json: options.Json = False,
) -> None:
    """Blend what several judges say by weights that suit the votes, and say what each way is worth.

    A bundle judges by itself, with all its judges inside. Beside a table the weights are kept in OUTPUT.weights.json,
    and can be used on other predictions with --apply.
    """  # fmt: skip
    from tiebreak.combine import asking
    from tiebreak.combine import blend as blending
    from tiebreak.judges import Runtime

    sources = asking.parse(tables)
    bundle = composing.is_bundle(output, sources)
    if (labels is None) == (apply is None):
        raise UsageError("--labels and --apply", expected="one of them: votes to fit weights to, or weights to use")
    if apply is not None:
        _apply(sources, apply, output, as_json=as_json)
        return
    assert labels is not None  # noqa: S101 - one of both is there
    votes = judged.votes(labels, input_format, mapping)
    runtime = Runtime(max_length, max_tokens, precision, devices, backend=backend, server=server)
    found = composing.opinions(sources, votes, runtime, in_sample=in_sample)
    blend = blending.fit(
        {one.name: one.table for one in found}, votes, space=space, rule=rule, slices=slices,  # type: ignore[arg-type]
        folds=folds, seed=seed,
    )  # fmt: skip
    said = _bundle(blend, found, output, name, refer=refer) if bundle else _table(blend, found, votes, output)
    if as_json:
        console.emit_json({"output": str(output), "blend": blend.model_dump(mode="json")})
    else:
        _show(blend)
    console.note(said)


def _table(blend: Blend, found: list[Opinion], votes: Any, output: Path) -> str:
    from tiebreak.combine import blend as blending
    from tiebreak.predict import format_of
    from tiebreak.predict.write import write

    done = blending.apply(blend, [one.table for one in found], votes)
    write(done, output, format_of(str(output)))
    kept = output.with_name(f"{output.stem}.weights.json")
    blending.save(blend, kept)
    return f"wrote {done.height:,} predictions to {output}, and {kept}"


def _bundle(blend: Blend, found: list[Opinion], output: Path, name: str | None, *, refer: bool) -> str:
    from tiebreak.combine import blend_bundle

    left = blend_bundle.write(blend, found, output, name=name or output.resolve().name, refer=refer)
    if left:
        console.note(f"note: {', '.join(left)}: of weight 0, and not in the bundle")
    composing.tables_alone([one for one in found if one.name not in left])
    return f"wrote the blend to {output}"


def _apply(sources: Any, apply: Path, output: Path, *, as_json: bool) -> None:
    from tiebreak.combine import blend as blending
    from tiebreak.predict import format_of
    from tiebreak.predict.write import write

    if (asked := next((one.name for one in sources if one.predictions is None), None)) is not None:
        raise UsageError(
            f"--apply with {asked}, a judge", expected="tables; a bundle with judges inside predicts itself"
        )
    blend = blending.load(apply)
    tables = {one.name: judged.predictions(one.predictions, one.columns) for one in sources}
    done = blending.apply(blend, list(_matched(tables, blend).values()))
    write(done, output, format_of(str(output)))
    if as_json:
        console.emit_json({"output": str(output), "blend": blend.model_dump(mode="json")})
    console.note(f"wrote {done.height:,} predictions to {output}")


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
        [name, combining.estimate(one["log_loss"]), "", "", f"{one['fitted']:.3f}", _range(one["fitted_by_fold"])]
        for name, one in study["tables"].items()
    ]
    rows += [
        [name + (" *" if name == blend.rule else ""), combining.estimate(one["log_loss"]),
         combining.estimate(one["change"], signed=True), combining.estimate(one["against_single"], signed=True), "", ""]
        for name, one in study["rules"].items()
    ]  # fmt: skip
    console.table(
        f"{study['rows']:,} votes in {study['groups']:,} groups, out of fold, 95 % intervals (* kept)",
        ("table or rule", "log-loss", "against equal", "against single", "fitted weight", "over folds"),
        rows,
    )
    console.emit(f"\nkept: {blend.rule}, mean of {blend.space}: {_weights(blend, blend.weights)}")
    for title, one in study.get("slices", {}).get("slices", {}).items():
        kept = "" if blend.slices else " (not kept)"
        console.emit(f"  {title}, {one['rows']:,} votes: {_weights(blend, one['weights'])}{kept}")


def _weights(blend: Blend, weights: list[float]) -> str:
    return ", ".join(f"{name} {weight:.3f}" for name, weight in zip(blend.names, weights, strict=True))


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"
