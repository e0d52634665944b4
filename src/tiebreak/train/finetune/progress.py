"""What a training run says while it runs: small events, for a terminal, a file, or TensorBoard.

The library prints nothing. `finetune(..., report=callback)` hands each event to the callback in the main process; the
same events, as JSON lines, are `history.jsonl` in the working folder of the run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tiebreak import storage


@dataclass(frozen=True)
class Figures:
    """What one validation found. `confusion` has the vote down and the verdict across, order a, b, tie.

    Attributes:
        log_loss: Mean over rows, in nats.
        accuracy: Share of verdicts that are the vote.
        macro_f1: Mean F1 over the classes.
        confusion: Counts of shape (3, 3).
        prior_log_loss: Of always predicting the class shares of the training rows.
        spread: Mean over classes of the standard deviation of the predicted probabilities: 0 for a constant.
        tie_share: Share of verdicts that are a tie.
        swap_gap: Mean disagreement of the two orders; None where one order was scored.
        rows: Rows scored.
    """

    log_loss: float
    accuracy: float
    macro_f1: float
    confusion: list[list[float]]
    prior_log_loss: float
    spread: float
    tie_share: float
    swap_gap: float | None
    rows: int


@dataclass(frozen=True)
class Started:
    """A run begins, or goes on from step `resumed_at` (0: it begins). `fold` is None without folds."""

    steps: int
    rows: int
    validation_rows: int
    trainable: int
    parameters: int
    device: str
    processes: int
    resumed_at: int
    fold: int | None = None
    folds: int = 0


@dataclass(frozen=True)
class Stepped:
    """One optimiser step is done. Rates count this process's share times the processes; `memory` is in bytes.

    `factors` is the standard deviation of what the rows are weighted by where that follows the training, else None.
    """

    step: int
    steps: int
    loss: float
    lr: float
    gradient_norm: float
    rows_per_second: float
    tokens_per_second: float
    seconds_left: float
    memory: int
    factors: float | None = None


@dataclass(frozen=True)
class Validated:
    """The validation rows were scored after `step`; `best` says that no earlier step had a lower log-loss."""

    step: int
    steps: int
    figures: Figures
    best: bool
    seconds: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on the disk, whole."""

    step: int
    path: str
    seconds: float


@dataclass(frozen=True)
class Said:
    """Something a person should know, in plain words."""

    text: str


@dataclass(frozen=True)
class Finished:
    """One training (of a fold, or the whole) is over and its bundle is written."""

    bundle: str
    best_step: int
    log_loss: float | None
    fold: int | None = None


Event = Started | Stepped | Validated | Saved | Said | Finished
Callback = Callable[[Event], None]

HISTORY: Final = "history.jsonl"


def silence(event: Event) -> None:
    """The callback that does nothing."""


def memory() -> int:
    """Bytes in use: of the CUDA device at their peak, else resident in this process."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import psutil  # type: ignore[import-untyped]

    return int(psutil.Process().memory_info().rss)


@dataclass
class Pace:
    """Rows and tokens a second over the steps since the start; validation and saving do not count.

    Attributes:
        steps: Steps to do in all.
    """

    steps: int
    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    done: int = 0
    _since: float = field(default_factory=time.perf_counter)

    def begin(self) -> None:
        """A step begins."""
        self._since = time.perf_counter()

    def end(self, rows: int, tokens: int) -> None:
        """A step is done: this many rows, this many tokens (over all processes)."""
        self.seconds += time.perf_counter() - self._since
        self.rows, self.tokens, self.done = self.rows + rows, self.tokens + tokens, self.done + 1

    def rates(self, step: int) -> tuple[float, float, float]:
        """Rows a second, tokens a second, seconds left after `step`."""
        seconds = max(self.seconds, 1e-9)
        left = (self.steps - step) * seconds / max(self.done, 1)
        return self.rows / seconds, self.tokens / seconds, left


class Record:
    """Keeps the events of one training on disk: `history.jsonl`, and TensorBoard files where that is installed.

    What was recorded after the step that a run goes on from is taken back: it will happen again.

    Args:
        directory: Working folder of the training.
        resumed_at: Step that the run goes on from.
    """

    def __init__(self, directory: Path, resumed_at: int) -> None:
        self._path = directory / HISTORY
        storage.make_directory(directory)
        self._board = _tensorboard(directory / "tensorboard", resumed_at)
        kept = [line for line in _lines(self._path) if line.get("step", 0) <= resumed_at] if resumed_at else []
        storage.write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def __call__(self, event: Event) -> None:
        """Write one event down."""
        line = {"event": type(event).__name__.lower(), **asdict(event)}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if self._board is not None and isinstance(event, Stepped | Validated):
            for name, value in _scalars(event).items():
                self._board.add_scalar(name, value, event.step)

    def validated(self) -> list[Validated]:
        """All validations of the training, also those before it was gone on with."""
        found = [line for line in _lines(self._path) if line.pop("event") == "validated"]
        return [Validated(**{**line, "figures": Figures(**line["figures"])}) for line in found]

    def losses(self) -> list[float]:
        """The training loss of each step."""
        return [line["loss"] for line in _lines(self._path) if line["event"] == "stepped"]

    def factors(self) -> list[float]:
        """The spread of the rows' factors in each step; empty where they do not follow the training."""
        spreads = [line.get("factors") for line in _lines(self._path) if line["event"] == "stepped"]
        return [spread for spread in spreads if spread is not None]

    def close(self) -> None:
        """Bring what is buffered to the disk."""
        if self._board is not None:
            self._board.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a history; a process that was killed may have left half of one at the end."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _scalars(event: Stepped | Validated) -> dict[str, float]:
    if isinstance(event, Stepped):
        shown = ("loss", "lr", "gradient_norm", "rows_per_second", "tokens_per_second", "memory")
        also = () if event.factors is None else ("factors",)
        return {f"train/{name}": getattr(event, name) for name in (*shown, *also)}
    found = ("log_loss", "accuracy", "macro_f1", "spread", "tie_share")
    return {f"validation/{name}": getattr(event.figures, name) for name in found}


def _tensorboard(directory: Path, resumed_at: int) -> Any:
    """A writer, or None where tensorboard is not installed: it is a convenience, the history has the same figures."""
    # TensorFlow, where it is installed beside tensorboard, would otherwise talk on stderr.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(directory), purge_step=resumed_at + 1 if resumed_at else None)
