"""How a long run goes: rows and tokens a second, time left; a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tiebreak.cli import console

if TYPE_CHECKING:
    from rich.progress import Progress

PAUSE: Final = 60.0
"""Seconds between two lines where there is no terminal: enough for the log of a night, few enough to read."""


class Meter:
    """Counts rows and tokens and shows them, as a context around the work.

    Args:
        what: Name of the work.
        total: Rows to come, if that is known.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.rows_to_come = what, total
        self.rows = self.rows_taken = self.token_count = 0
        self.started = self.spoke = time.perf_counter()
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not console.is_quiet():
            self.bar = _bar()
            self.bar.start()
            self.bar.add_task(self.what, total=self.rows_to_come, rate="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()
        if kind is None:
            counted = "row" if self.rows == 1 else "rows"
            taken = f" and {self.rows_taken:,} taken over" if self.rows_taken else ""
            console.note(f"{self.what}: {self.rows:,} {counted}{taken} in {self.seconds:.1f} s ({self.rate})")

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.perf_counter() - self.started, 1e-9)

    @property
    def rate(self) -> str:
        """Rows and, where they are counted, tokens a second."""
        tokens = f", {self.token_count / self.seconds:,.0f} tokens/s" if self.token_count else ""
        return f"{_short(self.rows / self.seconds)} rows/s{tokens}"

    def advance(self, rows: int) -> None:
        """Some more rows are done."""
        self.rows += rows
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], advance=rows, rate=self.rate)
        elif time.perf_counter() - self.spoke > PAUSE:
            self.spoke = time.perf_counter()
            console.note(f"{self.what}: {self.rows:,} rows ({self.rate}){self._left()}")

    def taken(self, rows: int) -> None:
        """Some rows were done before: they count for what is left, not for the speed."""
        self.rows_taken += rows
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], advance=rows)

    def tokens(self, count: int) -> None:
        """Some more tokens were read."""
        self.token_count += count

    def total(self, rows: int) -> None:
        """Now it is known how many rows there are."""
        self.rows_to_come = rows
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], total=rows)

    def _left(self) -> str:
        if not self.rows_to_come or not self.rows:
            return ""
        minutes = self.seconds / self.rows * max(self.rows_to_come - self.rows - self.rows_taken, 0) / 60
        return f", {self.rows_to_come:,} in all, about {minutes:,.0f} min left"


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), console=Console(stderr=True), transient=True,
    )  # fmt: skip
