"""`tiebreak combine cascade`: a cheap judge first, a dearer one where it pays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import combining, composing, console, judged, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.combine.asking import Opinion, Source
    from tiebreak.combine.cascade import Cascade
    from tiebreak.combine.cascade_study import Goal
    from tiebreak.judges import Runtime

EPILOG = """
Examples:

    tiebreak combine cascade embedded large-judge --labels votes.parquet --budget 0.5 -o cascade

    tiebreak combine cascade small=s.parquet@small large=l.parquet@large --labels votes.parquet --keep 0.95 -o cascade

    tiebreak combine cascade s.csv l.csv --cost s=1 --cost l=8 --labels votes.csv --target 0.95 -o cascade

    tiebreak combine cascade s-test.csv l-test.csv --apply cascade -o test.csv

    tiebreak predict votes.parquet --judge cascade -o predictions.parquet

The predictions must be out of fold: made by judges that were not trained on these votes.
"""


def command(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]JUDGE|PREDICTIONS...",
            help="Judges from cheap to dear: bundles to ask, tables (FILE#A,B,TIE names columns), or "
            "PREDICTIONS@JUDGE.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the bundle; with --apply a table.")],
    labels: composing.Labels = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", metavar="BUNDLE", help="Use a cascade on tables; nothing is fitted.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(show_default=False, help="Cost at most, as a share of asking every judge about every row."),
    ] = None,
    target: Annotated[
        float | None, typer.Option(show_default=False, help="Log-loss to reach at least cost, in nats.")
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(show_default=False, help="Share of the gain of asking everybody to keep at least cost: 0.99."),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=C",
            show_default=False,
            help="Cost of a row, in any one unit, repeatable. [default: seconds, measured here]",
        ),
    ] = None,
    route: Annotated[
        str, typer.Option(help="Who goes on: by entropy, margin, gain, or best: the simplest within noise.")
    ] = "best",
    answer: Annotated[
        str, typer.Option(help="pooled: the judges asked so far, by fitted weights. last: the last one asked.")
    ] = "pooled",
    space: Annotated[str, typer.Option(help="What is averaged: probabilities or logits.")] = "probabilities",
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of folds and resamples.")] = 0,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for the page and the curve. [default: OUTPUT.report]", show_default=False),
    ] = None,
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
    """Fit when the next, dearer judge is asked, for a budget or a target, and draw what quality costs.

    One of --budget, --target and --keep says what the thresholds are for.
    """  # fmt: skip
    from tiebreak.combine import asking
    from tiebreak.combine.cascade_study import Goal
    from tiebreak.judges import Runtime

    sources = asking.parse(tables)
    if (labels is None) == (apply is None):
        raise UsageError("--labels and --apply", expected="one of them: votes to fit to, or a cascade to use")
    if apply is not None:
        _apply(sources, apply, output, as_json=as_json)
        return
    assert labels is not None  # noqa: S101 - one of both is there
    goal = Goal(budget, target, keep)
    if not composing.is_bundle(output, sources):
        raise UsageError(f"-o {output}", expected="a folder for the bundle")
    votes = judged.votes(labels, input_format, mapping)
    runtime = Runtime(max_length, max_tokens, precision, devices, backend=backend, server=server)
    found = _opinions(sources, votes, runtime, in_sample=in_sample)
    costs = _costs(found, _given(cost, sources), votes, runtime)
    chosen = {"route": route, "answer": answer, "space": space, "folds": folds, "seed": seed}
    if list(costs.values()) != sorted(costs.values()):
        console.say(f"warning: the judges are not in the order of their costs: {', '.join(costs)}")
    cascade = _fit(found, votes, costs, goal, chosen)
    page = _write(cascade, found, output, report, name or output.resolve().name, measured=not cost, refer=refer)
    if as_json:
        console.emit_json({"output": str(output), "report": str(page), "cascade": cascade.model_dump(mode="json")})
    else:
        _show(cascade)
    composing.tables_alone(found)
    console.note(f"wrote the cascade to {output}, and {page}")


def _opinions(sources: list[Source], votes: pl.DataFrame, runtime: Runtime, *, in_sample: bool) -> list[Opinion]:
    from tiebreak.combine import cascade_bundle

    if len(sources) < 2:
        raise UsageError(f"{len(sources)} judge for a cascade", expected="two or more, the cheapest first")
    cascade_bundle.check([source.judge for source in sources if source.judge is not None])
    return composing.opinions(sources, votes, runtime, in_sample=in_sample)


def _given(cost: list[str] | None, sources: list[Source]) -> dict[str, float]:
    found = {}
    for text in cost or []:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--cost {text!r}", expected="NAME=NUMBER") from None
    unknown = next((name for name in found if name not in {source.name for source in sources}), None)
    if unknown is not None:
        raise UsageError(f"--cost {unknown}: no such judge", expected=f"one of {', '.join(s.name for s in sources)}")
    if found and len(found) < len(sources):
        raise UsageError("--cost for some of the judges", expected="a cost for each, in one unit, or for none")
    return found


def _costs(found: list[Opinion], given: dict[str, float], votes: pl.DataFrame, runtime: Runtime) -> dict[str, float]:
    """As given, else seconds a row: of the run just made, or of a few rows."""
    from tiebreak.combine import asking

    if given:
        return given
    bare = [one.name for one in found if one.judge is None]
    if bare:
        raise UsageError(f"no cost of {', '.join(bare)}, and no judge to measure", expected="--cost NAME=C for each")
    costs = {}
    for one in found:
        assert one.judge is not None  # noqa: S101 - seen above
        seconds = one.seconds if one.seconds is not None else asking.seconds_a_row(one.judge, votes, runtime)
        costs[one.name] = seconds
        console.note(f"  {one.name}: {1000 * seconds:,.2f} ms a row, measured here")
    return costs


def _fit(
    found: list[Opinion], votes: pl.DataFrame, costs: dict[str, float], goal: Goal, chosen: dict[str, Any]
) -> Cascade:
    from tiebreak.combine import cascade as cascading
    from tiebreak.judges.cascade.routing import NAMES

    steps = chosen["folds"] + (len(NAMES) if chosen["route"] == cascading.BEST else 1)
    with console.progress("fit", total=steps, unit="fits") as advance:
        return cascading.fit({one.name: one.table for one in found}, votes, costs, goal, advance=advance, **chosen)


def _write(
    cascade: Cascade, found: list[Opinion], output: Path, report: Path | None, name: str, *, measured: bool, refer: bool
) -> Path:
    from tiebreak.combine import cascade_bundle, cascade_page
    from tiebreak.evaluation.report import check

    folder = report or output.with_name(f"{output.resolve().name}.report")
    check(folder, cascade_page.CONTENT, option="--report")
    cascade_bundle.write(cascade, found, output, name=name, refer=refer)
    return cascade_page.write(cascade, folder, name=name, unit="seconds" if measured else "")


def _apply(sources: list[Source], apply: Path, output: Path, *, as_json: bool) -> None:
    import numpy as np

    from tiebreak.combine import cascade as cascading
    from tiebreak.combine import cascade_bundle
    from tiebreak.predict import format_of
    from tiebreak.predict.write import write

    form = format_of(str(output))
    if (asked := next((one.name for one in sources if one.predictions is None), None)) is not None:
        raise UsageError(
            f"--apply with {asked}, a judge", expected="tables; a bundle with judges inside predicts itself"
        )
    cascade = cascade_bundle.read(apply)
    given = {one.name: judged.predictions(one.predictions, one.columns) for one in sources if one.predictions}
    names = cascade.names if set(given) == set(cascade.names) else tuple(given)
    done, stage = cascading.apply(cascade, [given[name] for name in names])
    write(done, output, form)
    shares = np.bincount(stage, minlength=len(names)) / max(done.height, 1)
    answered = dict(zip(cascade.names, shares.tolist(), strict=True))
    if as_json:
        console.emit_json({"output": str(output), "rows": done.height, "answered": answered})
    said = ", ".join(f"{name} {100 * share:.1f} %" for name, share in answered.items())
    console.note(f"wrote {done.height:,} predictions to {output}; the last judge asked: {said}")


def _show(cascade: Cascade) -> None:
    from tiebreak.combine import cascade_page

    study: dict[str, Any] = cascade.study
    chosen, every = study["chosen"], study["everybody"]
    rows = [
        [name, f"{100 * share:.1f} %", combining.estimate(loss), "", ""]
        for name, share, loss in zip(cascade.names, study["shares"], study["judges"], strict=True)
    ]
    rows += [
        [label, _per_cent(one["cost"]), combining.estimate(one["log_loss"]),
         combining.estimate(one["against_first"], signed=True), _per_cent(one["kept"])]
        for label, one in (("everybody", every), ("cascade *", chosen))
    ]  # fmt: skip
    console.table(
        f"{study['rows']:,} votes in {study['groups']:,} groups, out of fold, 95 % intervals",
        ("judge", "cost", "log-loss", f"against {cascade.names[0]}", "gain kept"),
        rows,
    )
    answered = zip(cascade.names, chosen["answered"], strict=True)
    said = ", ".join(f"{name} {100 * share:.1f} %" for name, share in answered)
    console.emit(f"\nroute {study['route']}; the last judge asked: {said}")
    for text in cascade_page.warnings(cascade):
        console.say(f"warning: {text}")


def _per_cent(values: list[float | None]) -> str:
    value, low, high = ("-" if one is None else f"{100 * one:.1f}" for one in values)
    if low in {"-", value}:
        return value if value == "-" else f"{value} %"
    return f"{value} % [{low}, {high}]"
