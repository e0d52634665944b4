"""Learning progress: the model against its slow copy, measured over a whole step before the step is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tiebreak.engine import pack
from tiebreak.train.finetune import processes, restoring, sharding
from tiebreak.train.finetune.collating import MicroBatch
from tiebreak.train.finetune.loop import arithmetic
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.weighting import progress_factors


class SlowCopy:
    """An exponential moving average of the trained weights, in float32. The frozen base is not copied.

    It begins as the weights themselves. After each step: slow = decay slow + (1 - decay) weights.

    Args:
        model: The model, sharded already if it is to be.
        decay: Between 0 (the weights themselves) and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        # The parameters themselves are kept: while weights are gathered, FSDP2 shows others under their names.
        self._own = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        self._slow = {name: tensor.detach().float().clone() for name, tensor in self._own.items()}

    @torch.no_grad()
    def follow(self) -> None:
        """The weights have moved."""
        for name, slow in self._slow.items():
            slow.lerp_(self._own[name].detach().float(), 1 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with the slow weights; afterwards its own are back, bit for bit."""
        with torch.no_grad():
            own = {name: tensor.detach().clone() for name, tensor in self._own.items()}
            sharding.release(self._model)
            try:
                self._put(self._slow)
                yield
            finally:
                sharding.release(self._model)
                self._put(own)

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in self._own.items():
            tensor.copy_(weights[name])

    def state(self) -> dict[str, Tensor]:
        """The slow weights, whole and on the CPU. Called in every process."""
        return {name: restoring.whole(tensor) for name, tensor in self._slow.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Bring back what `state` gave."""
        for name, slow in self._slow.items():
            slow.copy_(restoring.placed(state[name], slow))


class LearningProgress:
    """Weights the rows of a step by their learning progress.

    Args:
        model: The model.
        recipe: Its `weighting` and its arithmetic.
        place: Where the model is.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, place: torch.device) -> None:
        self.slow = SlowCopy(model, recipe.weighting.decay)
        self.spread = 0.0
        self._model, self._recipe, self._place = model, recipe, place

    def __call__(self, step: dict[str, Any]) -> list[MicroBatch]:
        """The micro-batches of this process, with the factors in their weights. Called in every process.

        Both models run over the whole step without dropout; each row's progress is the mean over its views, wherever
        they lie, so that neither the cut into micro-batches nor the number of processes has a say.

        Args:
            step: As `collating.Steps` gives it.
        """
        # The loader of torch has made a tensor of the array.
        micro_batches, weights = step["micro_batches"], np.asarray(step["row_weights"])
        with torch.no_grad():
            self._model.eval()
            now = [self._log_p(micro) for micro in micro_batches]
            with self.slow.in_place():
                before = [self._log_p(micro) for micro in micro_batches]
        summed = np.zeros((2, len(weights)))
        for micro, new, old in zip(micro_batches, now, before, strict=True):
            real = micro.rows >= 0
            np.add.at(summed[0], micro.rows[real], (new - old)[real])
            np.add.at(summed[1], micro.rows[real], 1)
        summed = processes.total(summed)
        factors = progress_factors(summed[0] / summed[1], weights, self._recipe.weighting)
        self.spread = float(np.sqrt((weights * (factors - 1) ** 2).sum() / max(weights.sum(), 1e-300)))
        return [replace(micro, weights=_times(micro, factors)) for micro in micro_batches]

    def _log_p(self, micro: MicroBatch) -> np.ndarray:
        """The expected log-probability of each vote, shape (rows,), float64."""
        pairs = None if micro.pairs is None else torch.from_numpy(micro.pairs).to(self._place)
        with arithmetic(self._recipe.precision, self._place.type):
            logits = self._model(pack(micro.sequences, self._place), pairs)
        a, b, tie = (torch.log_softmax(logits.double(), dim=1).cpu().numpy() * micro.targets).T
        found: np.ndarray = a + b + tie
        return found


def _times(micro: MicroBatch, factors: np.ndarray) -> np.ndarray:
    # A spare micro-batch has weight 0 and the row -1, whose factor is as good as any.
    found: np.ndarray = (micro.weights * factors[micro.rows]).astype(np.float32)
    return found
