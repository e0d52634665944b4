"""The loop: transformers' Trainer, with our data order, our loss and our checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from tiebreak.engine import pack
from tiebreak.train.finetune import processes
from tiebreak.train.finetune.collating import MicroBatch, Steps
from tiebreak.train.finetune.loss import loss
from tiebreak.train.finetune.progress import Pace, Stepped, memory
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.schedule import schedule


@dataclass(frozen=True)
class Hooks:
    """What the training does beside the steps; all are called in every process.

    Attributes:
        restore: At the beginning, with the trainer: brings back the optimiser's state.
        stepped: After each step.
        validate: After the steps of `validate_at`; says whether this step is the best so far.
        save: After the steps of `save_at`, after a best step, and when the run is asked to stop.
        stopping: Whether the run is asked to stop.
        weigh: Before the micro-batches of a step: gives them other weights of rows; None leaves them.
        moved: After the optimiser has moved the weights.
    """

    restore: Callable[[JudgeTrainer], None]
    stepped: Callable[[Stepped], None]
    validate: Callable[[int], bool]
    save: Callable[[JudgeTrainer, int], None]
    stopping: Callable[[], bool]
    weigh: Callable[[dict[str, Any]], list[MicroBatch]] | None = None
    moved: Callable[[], None] | None = None


def due(every: float, steps: int) -> set[int]:
    """The steps after which something is done that happens every so many steps (below 1: every such share)."""
    between = max(1, round(every * steps)) if every < 1 else int(every)
    return {*range(between, steps + 1, between), steps}


def device() -> torch.device:
    """Where this process trains."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def arithmetic(precision: str, kind: str) -> AbstractContextManager[Any]:
    """Mixed precision for one forward pass.

    It is entered anew for each micro-batch: a long-lived autocast keeps casts of weights that a step has changed since.
    """
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(kind, dtype=types[precision]) if precision in types else nullcontext()


def arguments(recipe: Recipe, folder: Path, steps: int) -> TrainingArguments:
    """What Trainer is told: one batch is one step, and it neither saves, validates nor draws."""
    cuda = torch.cuda.is_available()
    made = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=1, gradient_accumulation_steps=1,
        max_grad_norm=recipe.optimiser.clip or 0.0, seed=recipe.seed, fp16=recipe.precision == "fp16" and cuda,
        use_cpu=not cuda, save_strategy="no", eval_strategy="no", logging_strategy="steps", logging_steps=1,
        logging_nan_inf_filter=False, report_to=[], disable_tqdm=True, remove_unused_columns=False,
        dataloader_pin_memory=False,
    )  # fmt: skip
    # Several GPUs without torchrun: Trainer would turn to DataParallel, which knows nothing of micro-batches.
    made._n_gpu = min(made.n_gpu, 1)
    return made


class JudgeTrainer(Trainer):  # type: ignore[misc]
    """Trains a judge's model; a batch of Trainer is a whole optimiser step of ours.

    What is overridden, and why:

    - `get_train_dataloader`: the steps come by number, from the step that the run goes on from; Trainer would replay
      the data to find the place.
    - `training_step`: the micro-batches of the step. Trainer 5.23 multiplies loss and gradient of a classifier by
      accumulation steps and processes; here the rows' weights sum to 1 over the step, so sums are means. Random
      numbers come from (seed, step, process): dropout is the same whether the run was interrupted or not.
    - `create_optimizer`, `create_scheduler`: ours, made before.
    - `evaluate`, `_save_checkpoint`, `log`: ours; Trainer's checkpoints are pickles.

    The model is marked as prepared, so that accelerate does not wrap it: gradients are summed once a step by
    `processes.sum_gradients`, or by FSDP2 where the weights are sharded.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, steps: Steps, optimiser: Optimizer, hooks: Hooks, *, folder: Path,
        begin: int = 0, sharded: bool = False,
    ) -> None:  # fmt: skip
        self.recipe, self.steps, self.hooks, self.begin, self.sharded = recipe, steps, hooks, begin, sharded
        self.pace = Pace(len(steps))
        model._is_accelerate_prepared = True  # type: ignore[assignment]
        super().__init__(model=model, args=arguments(recipe, folder, len(steps)), callbacks=[_Flow(self)])
        self.remove_callback(PrinterCallback)
        self.optimizer = optimiser
        self._last: dict[str, Any] = {}

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The steps from `begin` on."""
        return DataLoader(self.steps, batch_size=None, sampler=range(self.begin, len(self.steps)))  # type: ignore[arg-type]

    def create_optimizer(self, *unused: Any) -> Optimizer:
        """The optimiser that was given."""
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        """The recipe's schedule."""
        self.lr_scheduler = schedule(optimizer or self.optimizer, self.recipe.optimiser, len(self.steps))
        return self.lr_scheduler

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """All micro-batches of this process: forward, backward, and the sum of gradients over processes."""
        self.pace.begin()
        micro_batches = inputs["micro_batches"] if self.hooks.weigh is None else self.hooks.weigh(inputs)
        model.train()
        seed_step(self.recipe.seed, self.state.global_step)
        total = torch.zeros((), device=self.args.device)
        for micro in micro_batches:
            part = micro_loss(model, micro, self.recipe, self.args.device)
            total += part.detach()
            # FSDP2 averages over the processes what has to be summed.
            self.accelerator.backward(part * processes.world() if self.sharded else part)
        if not self.sharded:
            processes.sum_gradients(model)
        self._last = inputs
        # Trainer logs the mean over processes; the processes' shares add up to the loss of the step.
        return total * processes.world()

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report a finished step; what Trainer logs at the end is not needed."""
        if "loss" not in logs:
            return
        step = self.state.global_step
        rows, tokens, left = self.pace.rates(step)
        norm = float(logs.get("grad_norm", math.nan))
        self.hooks.stepped(
            Stepped(step, len(self.steps), logs["loss"], logs["learning_rate"], norm, rows, tokens, left, memory())
        )
        self._heed()

    def evaluate(self, *unused: Any, **also_unused: Any) -> dict[str, float]:
        """Validate; the best step so far is always saved."""
        self.control.should_evaluate = False
        if self.hooks.validate(self.state.global_step):
            self.control.should_save = True
        self._heed()
        return {}

    def _heed(self) -> None:
        """Asked to stop, save and stop after this step: a validation may take long, so that is asked twice."""
        if self.hooks.stopping():
            self.control.should_save = self.control.should_training_stop = True

    def _save_checkpoint(self, *unused: Any) -> None:
        self.hooks.save(self, self.state.global_step)


class _Flow(TrainerCallback):  # type: ignore[misc]
    """Says at each step what is due, and brings the run back to where it was."""

    def __init__(self, trainer: JudgeTrainer) -> None:
        self.trainer = trainer
        recipe, steps = trainer.recipe, len(trainer.steps)
        self.validate_at = due(recipe.evaluation.every, steps)
        self.save_at = due(recipe.evaluation.save_every or recipe.evaluation.every, steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on from `begin`."""
        state.global_step = self.trainer.begin
        self.trainer._globalstep_last_logged = self.trainer.begin
        self.trainer.hooks.restore(self.trainer)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The weights have moved: the step's work is done."""
        if self.trainer.hooks.moved is not None:
            self.trainer.hooks.moved()
        self.trainer.pace.end(self.trainer._last["rows"], self.trainer._last["tokens"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decide what follows the step."""
        control.should_evaluate = state.global_step in self.validate_at
        control.should_save = state.global_step in self.save_at


def seed_step(seed: int, step: int) -> None:
    """Random numbers of a step, in this process: a function of where the run is, not of how it came there."""
    mixed = (seed * 1_000_003 + step) * 1_009 + processes.rank()
    torch.manual_seed(mixed % 2**63)


def micro_loss(model: nn.Module, micro: MicroBatch, recipe: Recipe, place: torch.device) -> Tensor:
    """The micro-batch's part of the loss of the step."""
    pairs = None if micro.pairs is None else torch.from_numpy(micro.pairs).to(place)
    with arithmetic(recipe.precision, place.type):
        logits = model(pack(micro.sequences, place), pairs)
    targets, weights = torch.from_numpy(micro.targets).to(place), torch.from_numpy(micro.weights).to(place)
    taught = None if micro.teachers is None else torch.from_numpy(micro.teachers).to(place)
    return loss(logits, targets, weights, recipe.loss, taught)
