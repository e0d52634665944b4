"""What the commands say. stdout carries data alone; messages, tables and progress go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

JSON_VERSION: Final = 1
"""Version of the documents that `--json` prints; it grows when a field changes meaning or goes."""


class _Settings:
    quiet = False


def be_quiet(quiet: bool) -> None:
    """Silence messages and progress (not errors)."""
    _Settings.quiet = quiet


def is_quiet() -> bool:
    """Whether `--quiet` was given."""
    return _Settings.quiet


def say(text: str) -> None:
    """One message to stderr, whatever `--quiet` says: for errors and warnings."""
    # A terminal must not be steered by control characters out of somebody's file.
    shown = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    sys.stderr.write(shown.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def note(text: str) -> None:
    """One message to stderr, unless `--quiet`."""
    if not _Settings.quiet:
        say(text)


def emit(text: str) -> None:
    """One line of data to stdout."""
    sys.stdout.write(text + "\n")


def emit_json(document: dict[str, Any]) -> None:
    """A JSON document to stdout, with the version of its form."""
    emit(json.dumps({"json_version": JSON_VERSION, **document}, indent=1, ensure_ascii=False, allow_nan=False))


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, to_stdout: bool = True) -> None:
    """A table for people; the first column is text, the others are numbers. Cells are shown as they are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None)
    for position, name in enumerate(header):
        shown.add_column(name, justify="left" if position == 0 else "right")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    stream = sys.stdout if to_stdout else sys.stderr
    Console(file=stream, width=None if stream.isatty() else 160, highlight=False).print(shown)


@contextmanager
def progress(what: str, total: int | None, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """A progress bar with rate and time left on stderr; yields a function that advances it.

    Without a terminal nothing is drawn, and one line at the end says how many and how fast.
    """
    import time

    started, done = time.perf_counter(), 0

    def finish() -> None:
        seconds = max(time.perf_counter() - started, 1e-9)
        counted = unit.removesuffix("s") if done == 1 else unit
        note(f"{what}: {done:,} {counted} in {seconds:.1f} s ({done / seconds:,.0f} {unit}/s)")

    if _Settings.quiet or not sys.stderr.isatty():

        def count(step: int) -> None:
            nonlocal done
            done += step

        yield count
        finish()
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=total, rate="")

        def advance(step: int) -> None:
            nonlocal done
            done += step
            rate = done / max(time.perf_counter() - started, 1e-9)
            bar.update(task, advance=step, rate=f"{rate:,.0f} {unit}/s")

        yield advance
    finish()
