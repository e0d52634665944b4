"""Checkpoints that a run goes on from exactly: safetensors and JSON, whole or absent, bound to data and recipe.

A checkpoint is a folder `step-00000120` with the trained weights (and their slow copy, where rows are weighted by
learning progress), the state of the optimiser, and `state.json`: the counters of optimiser, schedule and loss scale.
There is no state of random numbers in it: those of a step come from (seed, step, process) and so need no memory. The
sampler needs none either: the rows of a step come from its number.

It is written aside, brought to the disk, then renamed; `manifest.json` holds the sha256 of each file, because a crash
of the machine can undo more than a crash of the program.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from tiebreak import storage

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.safetensors"
OPTIMISER: Final = "optimiser.safetensors"
STATE: Final = "state.json"
SLOW: Final = "slow.safetensors"
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Best:
    """The step with the lowest validation log-loss so far."""

    step: int
    log_loss: float


@dataclass(frozen=True)
class State:
    """Everything that decides how a run goes on.

    Attributes:
        step: Steps done.
        weights: Trained tensors by name.
        optimiser: Tensors of the optimiser by "parameter.name".
        counters: The rest, as JSON: numbers of the optimiser, schedule, loss scale.
        best: The best validated step, None before the first validation.
        slow: The slow copy of the weights by name, where the weighting of rows has one.
    """

    step: int
    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    counters: dict[str, Any]
    best: Best | None
    slow: dict[str, Tensor] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one training.

    Args:
        directory: Where they lie; made with the first one.
        identity: Fingerprints of data and recipe; a checkpoint of another run is never read.
        keep: How many of the newest are kept; beside them the best step of each of these.
    """

    def __init__(self, directory: Path, identity: dict[str, str], keep: int) -> None:
        self.directory = directory
        self._identity = identity
        self._keep = keep

    def path(self, step: int) -> Path:
        """The folder of the checkpoint after `step`."""
        return self.directory / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first, whole or not."""
        found = [_NAME.fullmatch(path.name) for path in self.directory.glob("step-*")]
        return sorted(int(match[1]) for match in found if match)

    def save(self, state: State) -> Path:
        """Write a checkpoint, then remove those that are no longer needed."""
        from safetensors.torch import save_file

        storage.make_directory(self.directory)
        path = self.path(state.step)
        # The same step of the same run is the same bytes: writing them again could only lose them.
        if self.fault(state.step) is not None:
            best = None if state.best is None else {"step": state.best.step, "log_loss": state.best.log_loss}
            document = {"step": state.step, "best": best, "counters": state.counters}
            with storage.replacing(path) as aside:
                aside.mkdir()
                save_file(state.weights, aside / WEIGHTS)
                save_file(state.optimiser, aside / OPTIMISER)
                (aside / STATE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                names = [WEIGHTS, OPTIMISER, STATE]
                if state.slow:
                    save_file(state.slow, aside / SLOW)
                    names.append(SLOW)
                sums = {name: storage.sha256(aside / name) for name in names}
                manifest = {"version": VERSION, "identity": self._identity, "files": sums}
                (aside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        self._prune()
        return path

    def fault(self, step: int) -> str | None:
        """What is wrong with the checkpoint after `step`; None when it is whole and of this run."""
        path = self.path(step)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if manifest["version"] != VERSION:
                return f"its version is {manifest['version']}, not {VERSION}"
            if manifest["identity"] != self._identity:
                return "it belongs to another run"
            for name in {WEIGHTS, OPTIMISER, STATE, *manifest["files"]}:
                if storage.sha256(path / name) != manifest["files"][name]:
                    return f"{name} was altered"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    def newest(self, say: Callable[[str], None]) -> int | None:
        """The newest step from which the run can go on: its checkpoint is whole, and so is that of its best step."""
        for step in reversed(self.steps()):
            fault = self.fault(step)
            best = None if fault else self.best_of(step)
            if fault is None and best is not None and best.step != step:
                fault = self.fault(best.step)
                fault = fault and f"its best step, {best.step}, is not usable: {fault}"
            if fault is None:
                return step
            say(f"{self.path(step)} is not usable ({fault}); the checkpoint before it is tried")
        return None

    def load(self, step: int) -> State:
        """Read the checkpoint after `step`."""
        from safetensors.torch import load_file

        document = self._document(step)
        path = self.path(step)
        return State(
            document["step"], load_file(path / WEIGHTS), load_file(path / OPTIMISER), document["counters"],
            self.best_of(step), load_file(path / SLOW) if (path / SLOW).is_file() else {},
        )  # fmt: skip

    def weights(self, step: int) -> dict[str, Tensor]:
        """The trained weights after `step`."""
        from safetensors.torch import load_file

        return load_file(self.path(step) / WEIGHTS)

    def best_of(self, step: int) -> Best | None:
        """The best step as the checkpoint after `step` knew it."""
        best = self._document(step)["best"]
        return None if best is None else Best(best["step"], best["log_loss"])

    def _document(self, step: int) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.path(step) / STATE).read_text(encoding="utf-8"))
        return document

    def _prune(self) -> None:
        """Keep the newest, and the best step of each of them: without it none could be gone on from."""
        kept = set(self.steps()[-self._keep :])
        for step in sorted(kept):
            try:
                best = self.best_of(step)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if best is not None:
                kept.add(best.step)
        for step in self.steps():
            if step not in kept:
                shutil.rmtree(self.path(step), ignore_errors=True)
        # A process that was killed while it wrote has left its part.
        for left in [*self.directory.glob(".step-*.partial"), *self.directory.glob(".step-*.old")]:
            shutil.rmtree(left, ignore_errors=True)
