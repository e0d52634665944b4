"""Fine-tuning as one call: recipe and votes in, a judge bundle out; stopped at any moment, the same call goes on."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tiebreak import storage
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.stopping import Stopper
from tiebreak.train.finetune import bundling, folding, outcomes, processes, self_distilling, starting, teachers, working
from tiebreak.train.finetune.fit import check, fit
from tiebreak.train.finetune.outcomes import Outcome
from tiebreak.train.finetune.progress import Callback, Finished, Said, silence
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.working import DONE, PREDICTIONS, Place

__all__ = ["Outcome", "finetune"]


def finetune(
    recipe: Recipe,
    train: pl.DataFrame,
    validation: pl.DataFrame | None,
    output: Path,
    *,
    teachers: Sequence[str | Path] = (),
    fold: int | None = None,
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
        teachers: Files of soft labels, or patterns for the shards of one teacher, audited; none: `data.teachers`.
        fold: Of the recipe's folds train only this one; `output` is then its bundle, the same bytes as that fold's of
            a run with all folds.
        resume: Go on with a run that was stopped; False begins anew.
        report: Told of every event (`tiebreak.train.finetune.progress`), in the first process.

    Raises:
        UsageError: `OUTPUT.run` is of another run, or the recipe cannot be run on this machine.
        DataError: The votes, the teachers' labels, or the judge to start from cannot be used.
        StoppedError: The process was asked to stop (SIGTERM, Ctrl-C); its state is saved.
        GateError: The loss is not a number any more, or the teacher of `self_distil` is worth nothing.
    """
    with processes.joined(), Stopper() as stopper:
        run = _Run.of(recipe, [str(one) for one in teachers], train, validation, Path(output), fold)
        return _through(run, train, stopper, report, resume=resume)


def _through(run: _Run, train: pl.DataFrame, stopper: Stopper, report: Callback, *, resume: bool = True) -> Outcome:
    """Do what is to be done, from wherever it was left."""
    if processes.first():
        working.begin(run.output, run.identity, run.recipe, resume=resume)
        for note in run.notes:
            report(Said(note))
    processes.barrier()
    if run.recipe.self_distil:
        run = _with_own_teacher(run, train, stopper, report)
    for place in run.places:
        _train(place, run, stopper, report)
    outcome = outcomes.collect(run.places, run.output, run.notes)
    if processes.first():
        outcomes.write(outcome)
    processes.barrier()
    return outcome


def _with_own_teacher(run: _Run, train: pl.DataFrame, stopper: Stopper, report: Callback) -> _Run:
    """Train the folds that are the run's own teacher, or go on with them; then lay their labels beside its rows."""
    recipe, place = self_distilling.teacher(run.recipe), working.folder(run.output) / "teacher"
    rows = self_distilling.rows(recipe, train, [one.part for one in run.places])
    if processes.first():
        report(Said(f"self_distil: first {recipe.folds} folds on the votes alone, in {place}"))
    # One stopper for both stages: a stop that is asked for in the last step of the first holds for the second.
    outcome = _through(_Run.of(recipe, [], rows, None, place, None), rows, stopper, report)
    taught = run.taught_by([self_distilling.label(outcome, recipe.name)])
    if processes.first():
        report(Said("self_distil: the teacher is done; now the judge itself"))
    return taught


@dataclass(frozen=True)
class _Run:
    """What is to be done.

    Attributes:
        recipe: With its teachers, and with terms for them.
        places: The trainings.
        identity: Fingerprints of all that decides the result.
        notes: What a person should know.
        output: Where the bundle, or the bundles, will be.
    """

    recipe: Recipe
    places: list[Place]
    identity: dict[str, str]
    notes: list[str]
    output: Path

    @classmethod
    def of(
        cls, recipe: Recipe, named: list[str], train: pl.DataFrame, validation: pl.DataFrame | None, output: Path,
        fold: int | None,
    ) -> _Run:  # fmt: skip
        recipe = teachers.settled(recipe, named, fold)
        check(recipe)
        todo, notes = folding.parts(recipe, train, validation)
        todo = todo if fold is None else [folding.only(todo, fold)]
        own = {} if fold is None else {"fold": str(fold)}
        identity = {**working.identity(recipe, todo), **own, **starting.identity(recipe)}
        held_out = [part.validation for part in todo]
        notes += [*processes.idle(), *starting.notes(recipe), *starting.seen(recipe, held_out)]
        places = working.places(todo, output, alone=fold is not None or not recipe.folds)
        run = cls(recipe, places, identity, notes, output)
        return run.taught_by(recipe.data.teachers)

    def taught_by(self, named: Sequence[str | Path]) -> _Run:
        """The run with the labels of teachers laid beside its rows."""
        if not named:
            return self
        known = teachers.read(named)
        places = [teachers.beside(place, known) for place in self.places]
        notes = self.notes + teachers.warnings([place.part for place in places])
        identity = {**self.identity, "teachers": teachers.identity(known)}
        return _Run(self.recipe, places, identity, notes, self.output)


def _train(place: Place, run: _Run, stopper: Stopper, report: Callback) -> None:
    """One training and its bundle, unless both are there."""
    if processes.any_of(processes.first() and place.finished):
        return
    part = place.part
    fitted = fit(part, run.recipe, place.folder, run.identity, stopper, report)
    judge = bundling.judge(part, run.recipe, fitted) if processes.first() else None
    loss = None if fitted.figures is None else fitted.figures.log_loss
    finished, findings = Finished(str(place.target), fitted.best_step, loss, part.fold), fitted.findings
    # The bundle reads its weights anew when it scores: two copies of a large model may be one too many.
    del fitted
    gc.collect()
    if judge is not None:
        _finish(judge, place, findings, report)
        report(finished)
    processes.barrier()


def _finish(judge: FinetunedJudge, place: Place, findings: list[str], report: Callback) -> None:
    """Write the bundle, score the held-out rows with it, and let the checkpoints go."""
    storage.make_directory(place.target.parent)
    judge.save(place.target)
    # A single training ends here and its outcome tells; of the folds each is told at once.
    for finding in [] if place.alone else findings:
        report(Said(finding))
    if place.part.validation is not None:
        with storage.replacing(place.folder / PREDICTIONS) as aside:
            judge.predict(place.part.validation).write_parquet(aside)
    done = {"metrics": judge.manifest.metrics, "findings": findings}
    storage.write_text(place.folder / DONE, json.dumps(done) + "\n")
    shutil.rmtree(place.folder / "checkpoints", ignore_errors=True)
