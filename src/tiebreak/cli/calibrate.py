"""`tiebreak calibrate`: are the probabilities honest, and the map that mends them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, judged, options
from tiebreak.errors import DataError, GateError, TiebreakError, UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.bundle import Manifest
    from tiebreak.calibrate import Estimate, Rows, Study

EPILOG = """
Examples:

    tiebreak calibrate predictions.parquet --labels votes.parquet

    tiebreak calibrate predictions.parquet --labels votes.parquet -o calibration.json

    tiebreak calibrate predictions.parquet --labels votes.parquet --judge my-judge -o my-judge-calibrated

    tiebreak calibrate teacher.csv --labels teacher.csv --columns m1_a,m1_b,m1_tie --method auto --json

    tiebreak calibrate new.parquet --apply calibration.json -o calibrated.parquet

    tiebreak calibrate votes.parquet --judge reward-judge --method auto -o reward-judge-fitted

The predictions must be out of fold: made by a judge that was not trained on these votes. A reward judge
needs none: it scores the VOTES itself, and its tie model is fitted to them.
"""


def command(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS", help="Probabilities: .parquet, .csv or .jsonl; for a reward judge also the VOTES."
        ),
    ],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Votes for the same ids: any votes file, or just id and label.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .json file for the calibration alone, a directory for a bundle, a table with --apply.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="symmetric, temperature, vector, dirichlet, dirichlet-symmetric, or auto for the best; of a reward "
            "judge davidson, rao-kupper, davidson-length, rao-kupper-length or auto. [default: symmetric, davidson]",
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option("--judge", "-j", help="Bundle that made the predictions; -o gets a copy with the calibration."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,TIE", help="Names of the columns. [default: p_a,p_b,p_tie]")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds of the nested cross-validation.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often to draw the folds anew.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of folds and resamples.")] = 0,
    apply: Annotated[
        Path | None, typer.Option("--apply", metavar="CALIBRATION", help="Use a saved calibration; nothing is fitted.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overrule the collapse alarm and the least number of rows; recorded.")
    ] = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    base: options.Base = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Judge calibrations by nested cross-validation, before and after, and keep one.

    A calibration that makes a constant of the judge, turns its verdict round, or beats no class prior is refused
    (exit code 6).
    """  # fmt: skip
    names = _columns(columns)
    if apply is None and judge is not None and _fits_layer(judge, method):
        from tiebreak.cli import calibrate_reward
        from tiebreak.judges import Runtime

        calibrate_reward.run(
            table, labels, output, judge, method or "davidson", names, folds=folds, repeats=repeats, seed=seed,
            force=force, input_format=input_format, mapping=mapping, dry_run=dry_run, as_json=as_json,
            runtime=Runtime(max_length, max_tokens, precision, devices, base=base),
        )  # fmt: skip
        return
    if apply is None and labels is None and judge is not None and method is None and _reads_prose(judge):
        from tiebreak.cli import calibrate_verdicts
        from tiebreak.judges import Runtime

        calibrate_verdicts.run(
            table, output, judge, folds=folds, repeats=repeats, seed=seed, force=force, input_format=input_format,
            mapping=mapping, dry_run=dry_run, as_json=as_json,
            runtime=Runtime(max_length, max_tokens, precision, devices, base=base),
        )  # fmt: skip
        return
    method = method or "symmetric"
    _check_options(labels, output, judge, apply, method)
    if apply is not None or labels is None:
        _apply(table, apply, output, names, force=force, dry_run=dry_run)
        return
    from tiebreak import calibrate
    from tiebreak.calibrate import document

    predicted = judged.predictions(table, names)
    votes = judged.votes(labels, input_format, mapping)
    if judge is not None:
        predicted = before_bundle(judge, predicted, votes)
    rows = calibrate.join(predicted, votes)
    tell_rows(rows, predicted.height)
    if dry_run:
        console.note(f"would judge {', '.join(calibrate.METHODS)} and write {method} to {output or 'no file'}")
        return
    equivariant = judge is not None or calibrate.is_equivariant(predicted)
    with console.progress("calibrate", total=folds * repeats * len(calibrate.METHODS), unit="fits") as advance:
        study = calibrate.study(
            rows.probabilities, rows.targets, rows.groups, weights=rows.weights, folds=folds, repeats=repeats,
            seed=seed, equivariant=equivariant, force=force, advance=advance,
        )  # fmt: skip
    # What was asked for is written before anything is printed: a closed pipe must not cost the file.
    refusal = _keep(study, method, output, judge, force=force)
    if as_json:
        console.emit_json({"method": method, **document.summary(study)})
    else:
        show(study, study.best if method == "auto" else method)
    for note in study.notes:
        console.note(f"note: {note}")
    if refusal is not None:
        raise refusal


def _fits_layer(judge: Path, method: str | None) -> bool:
    """Whether a tie model is to be fitted: always of a reward judge, but for the maps that fit any judge."""
    from tiebreak import bundle
    from tiebreak.calibrate import METHODS

    return bundle.read(judge).kind == "reward" and method not in METHODS


def _reads_prose(judge: Path) -> bool:
    """Whether a judge reads verdicts out of what a model writes, which have to be worth something first."""
    from tiebreak import bundle

    manifest = bundle.read(judge)
    return manifest.kind == "generative" and manifest.settings.get("reads") == "text"


def _keep(study: Study, method: str, output: Path | None, judge: Path | None, *, force: bool) -> TiebreakError | None:
    """Write the calibration; give back why it may not be used, if it may not."""
    from tiebreak.calibrate import document

    try:
        made = document.make(study, method, force=force)
    except (GateError, DataError) as refusal:
        return refusal
    if made.forced:
        console.say(f"warning: used by force although {'; '.join(made.forced)}")
    if output is not None:
        document.into_bundle(made, judge, output) if judge else document.save(made, output)
        console.note(f"wrote the {made.calibration.method} calibration to {output}")
    return None


def _columns(text: str | None) -> list[str] | None:
    names = text.split(",") if text else None
    if names is not None and len(names) != 3:
        raise UsageError(f"--columns {text!r}", expected="three names, for example --columns m1_a,m1_b,m1_tie")
    return names


def _check_options(
    labels: Path | None, output: Path | None, judge: Path | None, apply: Path | None, method: str
) -> None:
    from tiebreak.calibrate import METHODS

    if method not in (*METHODS, "auto"):
        raise UsageError(f"--method {method!r}", expected=f"one of {', '.join((*METHODS, 'auto'))}")
    if apply is not None and (judge is not None or labels is not None):
        raise UsageError("--apply fits nothing", expected="PREDICTIONS --apply CALIBRATION -o TABLE, and no more")
    if apply is None and output is not None and judge is None and output.suffix != ".json":
        raise UsageError(f"-o {output}", expected="a .json file, or --judge BUNDLE to write a calibrated copy of it")


def tell_rows(rows: Rows, predicted: int) -> None:
    """Say how many rows can be used."""
    labelled = len(rows.probabilities)
    left_out = f"; {predicted - labelled:,} without a label or with weight 0 left out" if predicted > labelled else ""
    console.note(f"  {labelled:,} labelled rows in {rows.group_count:,} groups{left_out}")


def before_bundle(judge: Path, predicted: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    """The predictions as they were before the calibration that the bundle has already, if it has one."""
    from tiebreak import bundle, calibrate

    manifest = bundle.read(judge)
    warn_if_trained_on(manifest, votes)
    if manifest.calibration is None:
        return predicted
    before, how = calibrate.uncalibrated(predicted, votes, judge)
    console.note(f"  {judge} is calibrated already, which will be replaced: {how}")
    return before


def warn_if_trained_on(manifest: Manifest, votes: pl.DataFrame) -> None:
    """Warn; whole data sets are recognised by fingerprint; a part of one cannot be."""
    from tiebreak import comparisons

    if not set(comparisons.REQUIRED) <= set(votes.columns):
        return
    found = comparisons.fingerprint(comparisons.validate(votes))
    for source in manifest.training:
        if source.fingerprint == found:
            console.say(
                f"warning: the judge was trained on these very votes ({source.name}): unless the predictions are out "
                "of fold, the calibration will be far too confident"
            )


def show(study: Study, chosen: str) -> None:
    """Print a study on stdout: figures of every method, and what the chosen one does."""
    from tiebreak.calibrate.reliability import reliability
    from tiebreak.calibrate.words import in_words

    lines = [
        [_marked(name, chosen, refused=bool(result.faults)), str(result.log_loss), _signed(result.change),
         str(result.brier), str(result.ece), str(result.accuracy)]
        for name, result in study.results.items()
    ]  # fmt: skip
    console.table(
        f"out of fold, {study.folds} folds x {study.repeats}, 95 % intervals (* shown below, ! refused by the alarm)",
        ("method", "log-loss", "change", "Brier", "ECE", "accuracy"),
        lines,
    )
    if chosen not in study.results:
        return
    result = study.results[chosen]
    if said := in_words(result):
        console.emit("\n".join((f"\n{chosen}:", *(f"  {sentence}" for sentence in said), "")))
    bins = [
        [cell.label, f"{cell.rows:,}", f"{cell.before:.3f}", f"{cell.after:.3f}", f"{cell.seen:.3f}"]
        for cell in reliability(study, chosen)
    ]
    console.table(f"reliability of {chosen}", ("class", "rows", "said before", "said after", "voted"), bins)
    console.emit(f"\nbest: {study.best} (the simplest within noise of the lowest log-loss)")


def _marked(name: str, chosen: str, *, refused: bool) -> str:
    return name + (" *" if name == chosen else "") + (" !" if refused else "")


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _apply(
    path: Path, calibration: Path | None, output: Path | None, names: list[str] | None, *, force: bool, dry_run: bool
) -> None:
    from tiebreak import calibrate
    from tiebreak.calibrate.words import describe
    from tiebreak.predict import format_of
    from tiebreak.predict.write import write

    if calibration is None or output is None:
        raise UsageError("nothing to do", expected="--labels VOTES, or --apply CALIBRATION -o TABLE")
    form = format_of(str(output))
    loaded = calibrate.load(calibration, force=force)
    done = calibrate.apply_table(loaded, judged.predictions(path, names))
    if dry_run:
        console.note(f"would write {done.height:,} calibrated predictions to {output}")
        return
    write(done, output, form)
    console.note(f"wrote {done.height:,} predictions to {output}; {'; '.join(describe(loaded))}")
