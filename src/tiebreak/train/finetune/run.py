"""Fine-tuning as one call: recipe and votes in, a judge bundle out; stopped at any moment, the same call goes on."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import JsonValue

from tiebreak import bundle, comparisons, predictions, storage
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.train.finetune import bundling, doctor, processes
from tiebreak.train.finetune.fit import check, fit
from tiebreak.train.finetune.folding import Part, parts
from tiebreak.train.finetune.progress import Callback, Finished, Said, silence
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.stopping import Stopper

RUN: Final = "run.json"
DONE: Final = "done.json"
PREDICTIONS: Final = "validation.parquet"
OOF: Final = "oof.parquet"
METRICS: Final = "metrics.json"


@dataclass(frozen=True)
class Outcome:
    """What a run left behind.

    Attributes:
        bundle: `output`: the judge bundle itself; with folds, a folder with the bundles `fold-0`, `fold-1`, ..., the
            table `oof.parquet` and `metrics.json`.
        bundles: The judge bundles, one a training.
        oof: With folds, the out-of-fold predictions: a row for each row that was held out in some fold, in the order of
            the training table, with the column `fold`. None without folds.
        validation: Predictions of the bundle for the held-out rows; with folds, the same as `oof`. None where nothing
            was held out.
        held_out: The comparisons that `validation` belongs to, row by row.
        metrics: Figures of each training.
        warnings: What the doctor found, and what was left out.
    """

    bundle: Path
    bundles: list[Path]
    oof: pl.DataFrame | None
    validation: pl.DataFrame | None
    held_out: pl.DataFrame | None
    metrics: dict[str, JsonValue]
    warnings: list[str]


def finetune(
    recipe: Recipe,
    train: pl.DataFrame,
    validation: pl.DataFrame | None,
    output: Path,
    *,
    resume: bool = True,
    report: Callback = silence,
) -> Outcome:
    """Fine-tune a judge.

    Checkpoints, history and TensorBoard files lie beside the output, in `OUTPUT.run`. Called again with the same recipe
    and votes it goes on from there: on a CPU the weights are those of a run that was never stopped, bit for bit. Under
    torchrun every process calls it.

    Args:
        recipe: What to do.
        train: Comparisons with labels.
        validation: Comparisons held out; None: `data.validation_share` of the groups, or the folds.
        output: Where the bundle will be (with folds: the bundles).
        resume: Go on with a run that was stopped; False begins anew.
        report: Told of every event (`tiebreak.train.finetune.progress`), in the first process.

    Raises:
        UsageError: `OUTPUT.run` is of another run, or the recipe cannot be run on this machine.
        DataError: The votes cannot be used.
        StoppedError: The process was asked to stop (SIGTERM, Ctrl-C); its state is saved.
        GateError: The loss is not a number any more.
    """
    check(recipe)
    output = Path(output)
    with processes.joined(), Stopper() as stopper:
        todo, notes = parts(recipe, train, validation)
        notes += processes.idle()
        identity = {"data": _data(todo), "recipe": _recipe(recipe)}
        work = output.with_name(output.name + ".run")
        if processes.first():
            _begin(output, work, identity, recipe, resume=resume)
            for note in notes:
                report(Said(note))
        processes.barrier()
        for part in todo:
            _train(part, recipe, output, work, identity, stopper, report)
        outcome = _collect(todo, recipe, output, work, notes)
        if recipe.folds and processes.first():
            _write(outcome)
        processes.barrier()
    return outcome


def _data(todo: list[Part]) -> str:
    """Fingerprint of all that the votes bring into the training."""
    digest = hashlib.sha256()
    for part in todo:
        for table in (part.train, part.validation):
            if table is not None:
                digest.update(comparisons.fingerprint(table).encode())
                digest.update(table.select(*comparisons.SOFT, "weight").write_ndjson().encode())
    return digest.hexdigest()


def _recipe(recipe: Recipe) -> str:
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def _begin(output: Path, work: Path, identity: dict[str, str], recipe: Recipe, *, resume: bool) -> None:
    """Make the working folder, or go on with the one that is there.

    Raises:
        UsageError: It is of another run, or something that is no bundle stands where the output will be.
    """
    if _foreign(output):
        raise UsageError(f"{output} exists and is no judge bundle", expected="a new place, or an empty folder")
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    path = work / RUN
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name, value in identity.items() if found.get(name) != value]:
            raise UsageError(
                f"{work} belongs to a run with other {' and other '.join(changed)}",
                expected="the same votes and the same recipe as before, to go on with it",
                mend="the same command with --anew begins again, or another -o",
            )
        return
    storage.make_directory(work)
    storage.write_text(work / "recipe.json", recipe.model_dump_json(indent=1) + "\n")
    storage.write_text(path, json.dumps(identity) + "\n")


def _foreign(output: Path) -> bool:
    """Whether something stands there that this run did not write and must not replace."""
    if not output.is_dir():
        return output.exists()
    ours = (output / bundle.MANIFEST).is_file() or list(output.glob("fold-*"))
    return not ours and any(output.iterdir())


def _places(part: Part, output: Path, work: Path) -> tuple[Path, Path]:
    """Where the bundle of a training goes, and where it works."""
    return (output, work) if part.fold is None else (output / f"fold-{part.fold}", work / f"fold-{part.fold}")


def _train(
    part: Part, recipe: Recipe, output: Path, work: Path, identity: dict[str, str], stopper: Stopper, report: Callback
) -> None:
    """One training and its bundle, unless both are there."""
    target, folder = _places(part, output, work)
    if processes.any_of(processes.first() and _finished(target, folder)):
        return
    fitted = fit(part, recipe, folder, identity, stopper, report)
    judge = bundling.judge(part, recipe, fitted) if processes.first() else None
    loss = None if fitted.figures is None else fitted.figures.log_loss
    finished, findings = Finished(str(target), fitted.best_step, loss, part.fold), fitted.findings
    # The bundle reads its weights anew when it scores: two copies of a large model may be one too many.
    del fitted
    gc.collect()
    if judge is not None:
        _finish(judge, part, findings, target, folder, report)
        report(finished)
    processes.barrier()


def _finished(target: Path, folder: Path) -> bool:
    try:
        bundle.read(target)
        return (folder / DONE).is_file()
    except BundleError:
        return False


def _finish(
    judge: FinetunedJudge, part: Part, findings: list[str], target: Path, folder: Path, report: Callback
) -> None:
    """Write the bundle, score the held-out rows with it, and let the checkpoints go."""
    if part.fold is not None:
        storage.make_directory(target.parent)
    judge.save(target)
    # A single training ends here and its outcome tells; of the folds each is told at once.
    for finding in findings if part.fold is not None else []:
        report(Said(finding))
    if part.validation is not None:
        with storage.replacing(folder / PREDICTIONS) as aside:
            judge.predict(part.validation).write_parquet(aside)
    done = {"metrics": judge.manifest.metrics, "findings": findings}
    storage.write_text(folder / DONE, json.dumps(done) + "\n")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _collect(todo: list[Part], recipe: Recipe, output: Path, work: Path, notes: list[str]) -> Outcome:
    """Read what the trainings left, and with folds put the held-out predictions into one table."""
    places = [_places(part, output, work) for part in todo]
    done: list[dict[str, Any]] = [json.loads((folder / DONE).read_text(encoding="utf-8")) for _, folder in places]
    warnings = notes + [finding for one in done for finding in one["findings"]]
    bundles = [target for target, _ in places]
    if not recipe.folds:
        held = todo[0].validation
        path = places[0][1] / PREDICTIONS
        scored = pl.read_parquet(path) if held is not None else None
        return Outcome(output, bundles, None, scored, held, done[0]["metrics"], warnings)
    held_out, oof = _out_of_fold(todo, [folder for _, folder in places])
    metrics = {f"fold-{part.fold}": one["metrics"] for part, one in zip(todo, done, strict=True)}
    metrics["oof"] = doctor.summary(oof, held_out)
    return Outcome(output, bundles, oof, oof, held_out, metrics, warnings)


def _write(outcome: Outcome) -> None:
    """Put the out-of-fold predictions and the figures beside the bundles; those of a run with more folds go."""
    assert outcome.oof is not None  # noqa: S101 - there are folds
    for left in set(outcome.bundle.glob("fold-*")) - set(outcome.bundles):
        shutil.rmtree(left)
    with storage.replacing(outcome.bundle / OOF) as aside:
        outcome.oof.write_parquet(aside)
    document = {"metrics": outcome.metrics, "warnings": outcome.warnings}
    storage.write_text(outcome.bundle / METRICS, json.dumps(document, indent=1) + "\n")


def _out_of_fold(todo: list[Part], folders: list[Path]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The held-out rows of all folds in the order of the votes, and their predictions with the column `fold`."""
    tables, scored = [], []
    for part, folder in zip(todo, folders, strict=True):
        if part.validation is None or part.order is None:
            raise DataError(f"fold {part.fold} holds nothing out")
        at = pl.Series("row", part.order)
        tables.append(part.validation.with_columns(at))
        found = predictions.align(pl.read_parquet(folder / PREDICTIONS), part.validation)
        scored.append(found.with_columns(pl.lit(part.fold, pl.Int64).alias("fold"), at))
    return (pl.concat(tables).sort("row").drop("row"), pl.concat(scored).sort("row").drop("row"))
