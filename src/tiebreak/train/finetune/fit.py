"""One training: from rows to the weights of the best step, gone on with wherever it was stopped."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tiebreak import comparisons
from tiebreak.engine.cpu.allocator import settle_allocator
from tiebreak.errors import GateError, StoppedError, UsageError
from tiebreak.judges.base import tokenizer
from tiebreak.judges.model import JudgeModel
from tiebreak.render import Renderer
from tiebreak.stopping import Stopper
from tiebreak.train.finetune import doctor, modelling, optimisers, processes, restoring, sharding, starting, weighting
from tiebreak.train.finetune.checkpoints import Best, Checkpoints, State
from tiebreak.train.finetune.collating import Steps, count_steps, order, render
from tiebreak.train.finetune.folding import Part
from tiebreak.train.finetune.four_bits import keep_trainable
from tiebreak.train.finetune.loop import Hooks, JudgeTrainer, device
from tiebreak.train.finetune.padding import pad
from tiebreak.train.finetune.progress import Callback, Figures, Record, Said, Saved, Started, Stepped, Validated
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.slow_copy import LearningProgress
from tiebreak.train.finetune.validation import HeldOut


@dataclass(frozen=True)
class Fitted:
    """What came of one training, the same in every process.

    Attributes:
        model: The network with the weights of the best step (of the last, where nothing was validated).
        renderers: One a template.
        best_step: The step whose weights these are.
        steps: Steps done.
        figures: Validation of that step; None where nothing was held out.
        findings: What the doctor found.
    """

    model: JudgeModel
    renderers: list[Renderer]
    best_step: int
    steps: int
    figures: Figures | None
    findings: list[str]


def check(recipe: Recipe) -> None:
    """Refuse what this machine or this combination cannot do, before anything is loaded.

    Raises:
        UsageError: fp16 without a GPU, or a sharded training that cannot be sharded.
    """
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("precision fp16 needs a GPU", expected="bf16 or fp32 on a CPU", mend="precision=bf16")
    if recipe.strategy == "fsdp":
        sharding.check(recipe)


def fit(
    part: Part, recipe: Recipe, folder: Path, identity: dict[str, str], stopper: Stopper, report: Callback
) -> Fitted:
    """Train once.

    Args:
        part: The rows.
        recipe: The recipe.
        folder: Working folder of this training: checkpoints, history, TensorBoard files.
        identity: Fingerprints of data and recipe, for the checkpoints.
        stopper: Says whether to stop after the step.
        report: Told of every event, in the first process.

    Raises:
        StoppedError: It was asked to stop; its state is saved.
        GateError: The loss is not a number any more.
    """
    training = _Training(part, recipe, folder, identity, stopper, report)
    try:
        training.run()
    finally:
        training.close()
    return training.result()


class _Training:
    def __init__(
        self, part: Part, recipe: Recipe, folder: Path, identity: dict[str, str], stopper: Stopper, report: Callback
    ) -> None:
        self.part, self.recipe, self.folder, self.stopper = part, recipe, folder, stopper
        self.place = device()
        self.sharded = recipe.strategy == "fsdp" and processes.world() > 1
        self.checkpoints = Checkpoints(folder / "checkpoints", identity, recipe.evaluation.keep)
        self._report = report
        self._said: list[Said] = []
        begin = self.checkpoints.newest(self._remember) if processes.first() else None
        self.begin = processes.from_first(begin or 0)
        self.state = self.checkpoints.load(self.begin) if self.begin else None
        self.best: Best | None = None if self.state is None else self.state.best
        self.record = Record(folder, self.begin) if processes.first() else None
        self.progress: LearningProgress | None = None
        self.renderers = [Renderer(template, tokenizer(recipe.base)) for template in recipe.templates]
        self.held_out = self._held_out()
        self.model = self._model()

    def _remember(self, text: str) -> None:
        self._said.append(Said(text))

    def _tell(self, event: Any) -> None:
        if self.record is not None:
            self.record(event)
            self._report(event)

    def _held_out(self) -> HeldOut | None:
        if self.part.validation is None:
            return None
        weights = self.part.train["weight"].fill_null(1.0).to_numpy()
        mass = (comparisons.targets(self.part.train) * weights[:, None]).sum(axis=0)
        return HeldOut.of(self.part.validation, self.renderers[0], self.recipe, mass / mass.sum())

    def _model(self) -> JudgeModel:
        if self.place.type == "cpu":
            settle_allocator()
        torch.manual_seed(self.recipe.seed)
        # What is sharded starts on the CPU: a whole copy may be more than the device holds.
        whole = self.place.type == "cuda" and not self.sharded
        model = modelling.build(self.recipe, device=self.place if whole else None)
        keep_trainable(model)
        starting.load(model, self.recipe)
        if self.state is not None:
            model.load_trainable(self.state.weights)
        if self.recipe.batches.packing == "padded":
            pad(model.pooled)
        return model

    def run(self) -> None:
        examples = render(
            self.part.train, self.renderers, self.recipe.judge, twin=self.recipe.batches.twin,
            teachers=self.part.teachers,
        )  # fmt: skip
        examples, notes = weighting.weighted(examples, self.recipe.weighting)
        count = count_steps(len(examples), self.recipe)
        lengths = examples.lengths.sum(axis=1) if self.recipe.batches.length_grouped else None
        plan = order(len(examples), count, self.recipe.batches.rows, self.recipe.seed, lengths)
        steps = Steps(examples, plan, self.recipe.batches, rank=processes.rank(), world=processes.world())
        self.steps = count
        trainable, parameters = _count(self.model)
        if self.state is None:
            processes.same_everywhere(self.model)
        if self.sharded:
            sharding.shard(self.model, self.place.type)
        optimiser = optimisers.build(modelling.parameter_groups(self.model, self.recipe), self.recipe.optimiser)
        self._tell(
            Started(count, len(examples), 0 if self.held_out is None else len(self.held_out.examples), trainable,
                    parameters, str(self.place), processes.world(), self.begin, self.part.fold, self.recipe.folds)
        )  # fmt: skip
        for said in [*self._said, *map(Said, notes), *_truncation(examples.truncated, len(examples))]:
            self._tell(said)
        if self.begin < count:
            hooks = self._weighed(Hooks(self._restore, self._stepped, self._validate, self._save, self._stopping))
            trainer = JudgeTrainer(
                self.model, self.recipe, steps, optimiser, hooks, folder=self.folder, begin=self.begin,
                sharded=self.sharded,
            )  # fmt: skip
            trainer.train()
            self._check_stop(trainer.state.global_step)

    def _weighed(self, hooks: Hooks) -> Hooks:
        """The hooks, with those of a weighting that follows the training where the recipe wants it."""
        if self.recipe.weighting.kind != "learning_progress":
            return hooks
        self.progress = LearningProgress(self.model, self.recipe, self.place)
        return replace(hooks, weigh=self.progress, moved=self.progress.slow.follow)

    def _restore(self, trainer: JudgeTrainer) -> None:
        if self.state is None:
            return
        if self.progress is not None:
            self.progress.slow.restore(self.state.slow)
        inner = restoring.unwrapped(trainer.optimizer)
        restoring.restore_optimiser(inner, self.state.optimiser, self.state.counters["optimiser"])
        restoring.restore_counters(self.state.counters, trainer.lr_scheduler, trainer.accelerator.scaler)
        self.state = None

    def _stepped(self, event: Stepped) -> None:
        if not math.isfinite(event.loss):
            raise GateError(
                f"the training loss is {event.loss} at step {event.step}",
                expected="a finite number",
                mend="a lower optimiser.lr, or precision=bf16 (the same command then needs --anew)",
            )
        self._tell(event if self.progress is None else replace(event, factors=self.progress.spread))

    def _validate(self, step: int) -> bool:
        if self.held_out is None:
            return False
        started = time.perf_counter()
        probabilities, gap = self.held_out.score(self.model, self.recipe, self.place)
        figures = self.held_out.figures(probabilities, gap if self.recipe.evaluation.swap else None)
        better = self.best is None or figures.log_loss < self.best.log_loss
        if better:
            self.best = Best(step, figures.log_loss)
        self._tell(Validated(step, self.steps, figures, better, time.perf_counter() - started))
        return better

    def _save(self, trainer: JudgeTrainer, step: int) -> None:
        started = time.perf_counter()
        weights = {name: restoring.whole(tensor) for name, tensor in self.model.trainable_state().items()}
        tensors, numbers = restoring.optimiser_state(restoring.unwrapped(trainer.optimizer))
        counters = restoring.counters(numbers, trainer.lr_scheduler, trainer.accelerator.scaler)
        slow = {} if self.progress is None else self.progress.slow.state()
        if processes.first():
            path = self.checkpoints.save(State(step, weights, tensors, counters, self.best, slow))
            self._tell(Saved(step, str(path), time.perf_counter() - started))
        processes.barrier()

    def _stopping(self) -> bool:
        return processes.any_of(self.stopper.asked)

    def _check_stop(self, step: int) -> None:
        if step < self.steps:
            where = "" if self.part.fold is None else f"fold {self.part.fold}, "
            raise StoppedError(
                f"asked to stop: {where}step {step} of {self.steps} is saved in {self.checkpoints.directory}",
                mend="the same command again goes on from there",
            )

    def close(self) -> None:
        if self.record is not None:
            self.record.close()

    def result(self) -> Fitted:
        """The weights of the best step in an unsharded model, and what was found on the way."""
        chosen = self.steps if self.best is None else self.best.step
        if self.sharded:
            del self.model
            self.model = self._model()
        self.model.load_trainable(self.checkpoints.weights(chosen))
        validated = [] if self.record is None else self.record.validated()
        losses = [] if self.record is None else self.record.losses()
        figures = next((event.figures for event in validated if event.step == chosen), None)
        factors = [] if self.record is None else self.record.factors()
        findings = doctor.diagnose(validated, figures, losses, self.part.fold, factors)
        return Fitted(self.model, self.renderers, chosen, self.steps, figures, findings)


def _count(model: JudgeModel) -> tuple[int, int]:
    """Trainable parameters, and all; weights in 4 bits lie two in a byte."""
    sizes = [(p.requires_grad, p.numel() * (2 if hasattr(p, "quant_state") else 1)) for p in model.parameters()]
    return sum(size for trains, size in sizes if trains), sum(size for _, size in sizes)


def _truncation(cut: int, rows: int) -> list[Said]:
    if not cut:
        return []
    return [Said(f"{cut:,} of {rows:,} rows are longer than max_length and were cut by the template's policy")]
