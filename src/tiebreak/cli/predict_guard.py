"""`tiebreak predict --within TIME --otherwise JUDGE`: the cheaper judge, and the meters of two judges one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tiebreak.cli import console
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak import ingest
    from tiebreak.bundle import Manifest
    from tiebreak.cli.meter import Meter
    from tiebreak.cli.predict_source import Source
    from tiebreak.predict import Guard, Plan, Progress, Run

EMBEDDED: Final = "embedded"
SHARE: Final = 0.05
"""Of the time, after which the pace is known well enough to foresee the end."""


@dataclass(frozen=True)
class Fallback:
    """The cheaper judge of a run, and its name for people."""

    guard: Guard
    name: str

    def foreseen(self) -> str:
        """What it is there for, in a sentence."""
        until = f"by {_words(self.guard.within)} from now" if self.guard.within is not None else "should the judge die"
        return f"{self.name} answers every row first; its answers stay where the judge has none {until}"


def fallback_of(
    within: str | None, otherwise: str | None, started: float, source: Source, judge: Manifest, devices: str
) -> Fallback | None:
    """The cheaper judge as asked for; None if nobody asked, or if it is the very judge of the run.

    Args:
        within: Time from `started`, as `8h30m`.
        otherwise: A bundle, or `embedded`; with `within` alone it is the latter.
        started: When the clock began to run.
        source: The input of the run.
        judge: The judge of the run.
        devices: Where a judge with a network runs.

    Raises:
        UsageError: The time makes no sense.
        BundleError: The cheaper judge is no bundle, or a damaged one.
    """
    if within is None and otherwise is None:
        return None
    from tiebreak import bundle, judges
    from tiebreak.predict import Guard, guard, scale

    allowed = None if within is None else guard.seconds(within)
    directory = None if otherwise in (None, EMBEDDED) else Path(str(otherwise))
    manifest = bundle.read(judges.EMBEDDED if directory is None else directory)
    if manifest == judge:
        console.note(f"the judge and --otherwise are the same ({judge.name}): it does all rows, without a guard")
        return None
    runtime = judges.Runtime(devices=devices) if judges.has_network(manifest) else judges.Runtime()
    rows = scale.chunk_rows(manifest, devices)
    identity = source.identity(manifest, runtime, rows)
    name = f"embedded ({manifest.name})" if directory is None else str(directory)
    return Fallback(Guard(directory, runtime, identity, rows, allowed, started), name)


def check(files: list[str], output: str, engine: str, *, launched: bool) -> None:
    """What a guarded run cannot be.

    Raises:
        UsageError: It is one of these.
    """
    if "-" in (*files, output):
        raise UsageError(
            "--within and --otherwise read the input twice and finish the output at the end",
            expected="files for input and output, not a pipe",
        )
    if engine == "ray" or launched:
        raise UsageError(
            "--within and --otherwise need workers that this process starts and can kill",
            expected="--engine local, or --engine torchrun without a launcher around it",
            mend="--engine local --workers N",
        )


def run(
    source: Source, report: ingest.Report, plan: Plan, engine: str, fallback: Fallback, total: int | None,
    progress: Callable[[Callable[[], Meter]], Progress],
) -> tuple[Run, float]:  # fmt: skip
    """Do it, with a meter for each of the two judges; what was done, and the seconds it took."""
    from tiebreak import predict
    from tiebreak.predict import fleet

    with Stages() as stages:
        stages.begin("otherwise", total)
        heard = progress(lambda: stages.meter)
        outlook = Outlook(fallback, lambda: stages.meter)

        def answered() -> None:
            stages.begin("predict", total)
            outlook.begin()

        done = predict.predict_guarded(
            _openings(source, report), plan, fallback.guard, replace(heard, advance=outlook.advance), first=heard,
            answered=answered, make=fleet.torchrun if engine == "torchrun" else fleet.local,
        )  # fmt: skip
    return done, time.monotonic() - fallback.guard.started


def _openings(source: Source, report: ingest.Report) -> Callable[[], Any]:
    """Opens the input: the first time for the report and the rejected rows, then for its rows alone."""
    ways = iter([lambda: source.tables(report)])
    return lambda: next(ways, source.again().tables)()


class Stages:
    """One meter after another: a terminal has room for one."""

    meter: Meter

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def begin(self, what: str, total: int | None) -> None:
        """End the meter before, and start the next."""
        from tiebreak.cli.meter import Meter

        self._open.close()
        self.meter = self._open.enter_context(Meter(what, total))


class Outlook:
    """Says once, when a twentieth of the time is gone, if the judge will not get to all rows at this pace.

    Args:
        fallback: The cheaper judge, and the time.
        meter: The meter of the moment, which counts the rows.
    """

    def __init__(self, fallback: Fallback, meter: Callable[[], Meter]) -> None:
        self.fallback, self.meter = fallback, meter
        self.began: float | None = None
        self.first: tuple[float, int] | None = None

    def begin(self) -> None:
        """The judge begins; without a deadline there is nothing to foresee."""
        self.began = time.monotonic() if self.fallback.guard.within is not None else None

    def advance(self, rows: int) -> None:
        """Some more rows are done."""
        meter, now = self.meter(), time.monotonic()
        meter.advance(rows)
        if self.began is None or meter.rows_to_come is None:
            return
        if self.first is None:  # until here the judge was loading too, which says nothing about its pace
            self.first = now, meter.rows
            return
        left = self.fallback.guard.until - now
        if now - self.began < SHARE * (now - self.began + left):
            return
        since, rows_then = self.first
        pace = (meter.rows - rows_then) / max(now - since, 1e-9)
        foreseen = meter.rows_taken + meter.rows + int(pace * left)
        self.began = None
        if foreseen < meter.rows_to_come:
            console.note(
                f"at this pace the judge gets to about {foreseen:,} of {meter.rows_to_come:,} rows in time; the others "
                f"are those of {self.fallback.name}"
            )


def _words(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds // 60 % 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60:.0f} s"
