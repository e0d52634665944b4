"""How a training is shown while it runs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from tiebreak.cli import console

if TYPE_CHECKING:
    from rich.progress import Progress

    from tiebreak.train.finetune.progress import Started, Stepped, Validated

PAUSE: Final = 30.0
"""Seconds between two lines about steps where there is no terminal."""


class Display:
    """Takes the events of `finetune` and shows them, as a context around it."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.spoke = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def __call__(self, event: Any) -> None:
        """Show one event."""
        show = getattr(self, f"_{type(event).__name__.lower()}", None)
        if show is not None:
            show(event)

    def _started(self, event: Started) -> None:
        fold = "" if event.fold is None else f"fold {event.fold + 1} of {event.folds}: "
        again = f", going on from step {event.resumed_at:,}" if event.resumed_at else ""
        many = f" x {event.processes} processes" if event.processes > 1 else ""
        self._say(
            f"{fold}{event.rows:,} votes, {event.validation_rows:,} held out; {event.trainable:,} of "
            f"{event.parameters:,} parameters train; {event.steps:,} steps on {event.device}{many}{again}"
        )
        if sys.stderr.isatty() and not console.is_quiet():
            self._close()
            self.bar = _bar()
            self.bar.start()
            self.bar.add_task("train", total=event.steps, completed=event.resumed_at, figures="")

    def _stepped(self, event: Stepped) -> None:
        figures = (
            f"loss {event.loss:.4f}  {event.rows_per_second:,.1f} rows/s  {event.tokens_per_second:,.0f} tokens/s  "
            f"{event.memory / 2**30:.1f} GiB"
        )
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=event.step, figures=figures)
        elif time.monotonic() - self.spoke > PAUSE or event.step == event.steps:
            self.spoke = time.monotonic()
            left = f", {event.seconds_left / 60:,.0f} min left" if event.seconds_left >= 60 else ""
            console.note(f"step {event.step:,} of {event.steps:,}: {figures}{left}")

    def _validated(self, event: Validated) -> None:
        found = event.figures
        best = ", the best so far" if event.best else ""
        votes = " / ".join(" ".join(f"{count:,.0f}" for count in row) for row in found.confusion)
        self._say(
            f"step {event.step:,}: held-out log-loss {found.log_loss:.4f} (their prior {found.prior_log_loss:.4f}), "
            f"accuracy {found.accuracy:.3f}, macro-F1 {found.macro_f1:.3f}, votes a / b / tie judged a b tie: "
            f"{votes}{best}"
        )

    def _said(self, event: Any) -> None:
        self._say(event.text)

    def _finished(self, event: Any) -> None:
        self._close()
        loss = "" if event.log_loss is None else f" with held-out log-loss {event.log_loss:.4f}"
        console.note(f"step {event.best_step:,}{loss} is in {event.bundle}")

    def _say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            console.note(text)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(), console=Console(stderr=True), transient=True,
    )  # fmt: skip
