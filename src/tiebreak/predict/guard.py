"""A run that has its answers in time, whatever becomes of its judge.

A cheaper judge answers every row first. Then the real one goes to work, in processes that can be killed. What it has
not finished when the time is up, or when it has died for good, keeps the cheaper answers: each row is one judge's or
the other's, bit by bit as that judge alone would have answered. Finished parts are kept until there is nothing left to
do, so that the same command goes on, with more time or after a repair.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import bundle, judges, predictions
from tiebreak.errors import DataError, TiebreakError, UsageError
from tiebreak.judges import Runtime
from tiebreak.predict import fleet, sharded, worker, write
from tiebreak.predict.parts import Parts, beside, recall
from tiebreak.predict.pool import Claim
from tiebreak.predict.progress import SILENT, Progress
from tiebreak.predict.run import Run, predict_file
from tiebreak.predict.sharded import PAUSE, Make, Plan, Shift

LOSSES: Final = 3
"""Chunks that may fall to the cheaper judge alone, one by one; with the next one it is the judge that is at fault."""

RESERVE: Final = 1.0
WRITINGS: Final = 3
SECONDS_PER_PART: Final = 0.01
"""Kept back for the end: a second, three times what writing the cheaper judge's answers took, and this for each part
that has to be read again (about 2 ms on a quiet machine)."""

Spans = tuple[tuple[int, int], ...]
"""First and last row of each stretch, counted from 1."""

_DURATION: Final = re.compile("".join(rf"(?:(\d+\.?\d*){unit})?" for unit in "dhms"))
_NUMBER: Final = re.compile(r"\d+\.?\d*")
_UNITS: Final = (86400.0, 3600.0, 60.0, 1.0)


@dataclass(frozen=True)
class Guard:
    """What answers where the judge does not, and when.

    Attributes:
        judge: Directory of the cheaper judge's bundle; None is the embedded judge.
        runtime: How it is to run.
        identity: Fingerprint of its own run over the same input.
        chunk_rows: Rows it judges at a time.
        within: Seconds, from `started`, in which the output must lie there; None waits for the judge as long as it
            lives.
        started: `time.monotonic()` when the clock began to run.
    """

    judge: Path | None
    runtime: Runtime
    identity: str
    chunk_rows: int
    within: float | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def until(self) -> float:
        """When the output must lie there, by `time.monotonic()`."""
        return float("inf") if self.within is None else self.started + self.within


def seconds(text: str) -> float:
    """`8h30m`, `90m`, `1.5h`, `45s` or `5400` as seconds; 0 leaves none.

    Raises:
        UsageError: It is none of these.
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise UsageError(f"a time of {text!r}", expected="hours, minutes and seconds as 8h30m or 90m, or seconds alone")
    return sum(float(number) * unit for number, unit in zip(found.groups(), _UNITS, strict=True) if number)


def predict_guarded(
    tables: Callable[[], Iterable[pl.DataFrame]], plan: Plan, guard: Guard, progress: Progress = SILENT, *,
    first: Progress = SILENT, answered: Callable[[], None] = lambda: None, make: Make = fleet.local,
) -> Run:  # fmt: skip
    """Judge with worker processes, and have every row answered in time.

    Args:
        tables: Opens the input; called twice.
        plan: The run of the real judge.
        guard: The cheaper judge, and the time.
        progress: Hears of the real judge's chunks, and of everything that went wrong with it.
        first: Hears of the cheaper judge's chunks.
        answered: Called when these are done, before the real judge begins.
        make: Starts the workers.

    Raises:
        UsageError: An interrupted run is in the way, is another run's, or is being worked on.
        DataError: The input is at fault, or the submission would not be valid: that is seen before the real judge
            begins, from the cheaper answers.
        ResourceError: The disk is full or the place cannot be written.
        TiebreakError: Whatever the cheaper judge raises: without its answers there is no guard.
    """
    with plan.begin() as parts:
        answers = _answered(tables(), parts, guard, first)
        reserve = _rehearsed(answers, parts, plan)
        reused = _finished_rows(parts, answers, plan.chunk_rows)
        answered()
        shift = _Guarded(tables(), parts, plan, make, progress)
        reason = shift.work(guard, reserve)
        table, spans = merged(parts, answers, plan.chunk_rows)
        write.write(table, plan.output, plan.form, plan.sample, plan.kaggle)
        _tidy(parts, plan, whole=not spans)
        run = Run.of(table, reused=reused, retried=shift.watch.retried)
        return replace(run, otherwise=_count(spans), reason=reason if spans else "", spans=spans)


def _answered(tables: Iterable[pl.DataFrame], parts: Parts, guard: Guard, progress: Progress) -> pl.DataFrame:
    """Every row's answer by the cheaper judge: a run of its own, its output among the parts of the real one."""
    output = parts.directory / f"otherwise-{guard.identity[:16]}.parquet"
    try:
        table = predictions.validate(pl.read_parquet(output))
    except (OSError, pl.exceptions.PolarsError, DataError):
        _answer(tables, output, guard, progress)
        return predictions.validate(pl.read_parquet(output))
    progress.reuse(table.height)
    return table


def _answer(tables: Iterable[pl.DataFrame], output: Path, guard: Guard, progress: Progress) -> None:
    began = recall(beside(output)).get("identity") == guard.identity
    if not began:
        shutil.rmtree(beside(output), ignore_errors=True)
    if judges.has_network(bundle.read(judges.EMBEDDED if guard.judge is None else guard.judge)):
        # In a process of its own, which gives the GPU back when it ends.
        plan = Plan(guard.judge, guard.runtime, output, "parquet", guard.identity, guard.chunk_rows, resume=began)
        sharded.predict_local(tables, plan, progress)
    else:
        predict_file(
            tables, judges.load(guard.judge, guard.runtime), output, form="parquet", identity=guard.identity,
            resume=began, chunk_rows=guard.chunk_rows, progress=progress,
        )  # fmt: skip


def _rehearsed(answers: pl.DataFrame, parts: Parts, plan: Plan) -> float:
    """Write the output from the cheaper answers alone, beside the parts; seconds to keep back for the real one.

    A form that does not fit is found out now and not when the time is up. And should this process die, here is an
    answer.
    """
    began = time.monotonic()
    write.write(answers, _rehearsal(parts, plan), plan.form, plan.sample, plan.kaggle)
    count = -(-answers.height // plan.chunk_rows)
    return RESERVE + WRITINGS * (time.monotonic() - began) + SECONDS_PER_PART * count


def _rehearsal(parts: Parts, plan: Plan) -> Path:
    return parts.directory / f"otherwise{plan.output.suffix}"


def _finished_rows(parts: Parts, answers: pl.DataFrame, chunk_rows: int) -> int:
    """Rows that an interrupted run has finished; told from the parts, for the reader may not get to all of them."""
    return answers.height - _count(merged(parts, answers, chunk_rows)[1]) if parts.numbers() else 0


def merged(parts: Parts, answers: pl.DataFrame, chunk_rows: int) -> tuple[pl.DataFrame, Spans]:
    """The finished parts, and the cheaper answers where there is none; with the rows of the latter.

    A part counts if it is whole and holds the very ids of its rows. Counts of tokens are null in rows of a judge that
    does not count them.
    """
    tables, spans = [], []
    for number, start in enumerate(range(0, answers.height, chunk_rows)):
        given = answers.slice(start, chunk_rows)
        part = parts.finished(number, given["id"])
        tables.append(given if part is None else part)
        if part is None:
            spans.append((start + 1, start + given.height))
    whole = pl.concat(tables, how="diagonal") if tables else answers
    return whole.select(predictions.columns(whole).keys()), _joined(spans)


def _count(spans: Spans) -> int:
    return sum(last - start + 1 for start, last in spans)


def _joined(spans: list[tuple[int, int]]) -> Spans:
    joined: list[tuple[int, int]] = []
    for start, last in spans:
        if joined and joined[-1][1] + 1 == start:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((start, last))
    return tuple(joined)


def _tidy(parts: Parts, plan: Plan, *, whole: bool) -> None:
    """Leave nothing behind, or what the next try needs: finished parts and the cheaper answers."""
    if whole:
        parts.discard()
        return
    shutil.rmtree(parts.directory / "work", ignore_errors=True)
    _rehearsal(parts, plan).unlink(missing_ok=True)


class _Guarded(Shift):
    """Workers whose deaths end nothing but their own work."""

    def __init__(
        self, tables: Iterable[pl.DataFrame], parts: Parts, plan: Plan, make: Make, progress: Progress
    ) -> None:
        super().__init__(tables, parts, plan, make, progress)
        self.progress = progress
        self.lost: dict[int, str] = {}

    def work(self, guard: Guard, reserve: float) -> str:
        """Work until all is done, the time is up, or the judge is; why rows were left, if some were."""
        with self:
            try:
                while time.monotonic() <= guard.until - reserve:
                    if self.over():
                        return "; ".join(f"chunk {number}: {wrong}" for number, wrong in self.lost.items())
                    time.sleep(PAUSE)
                self._kill()
            except TiebreakError as error:
                if error is self.spool.fault and self.spool.source.at_fault:
                    raise
                self._kill()
                self.progress.note(f"the judge was given up: {error}")
                return _first_line(error)
        return f"the time was up ({guard.within:,.0f} s, {reserve:.1f} s of them kept for writing)"

    def _kill(self) -> None:
        for crew in self.crews:
            crew.kill()

    def overcome(self, crew: fleet.Crew, code: int) -> None:
        """A process died: as ever, but what cannot be done falls to the cheaper judge, chunk by chunk.

        Raises:
            TiebreakError: The last one died without a chunk, or too many chunks were lost: the judge is at fault.
        """
        try:
            super().overcome(crew, code)
        except TiebreakError as error:
            left = self.pool.left_by(crew.ranks)
            if not left and len(self.crews) > 1:
                self.crews = [other for other in self.crews if other is not crew]
                self.progress.note(f"worker {crew.ranks[0]} was given up, the rest goes on: {error}")
            elif not left or len(crew.ranks) > 1 or len(self.lost) + len(left) > LOSSES:
                raise
            else:
                self._lose(left, error)
                crew.start()
        if len(self.crews) == 1:
            self.pool.forgive()  # the last one cannot leave a chunk to another

    def _lose(self, left: list[Claim], error: TiebreakError) -> None:
        self.watch.give_up(left)
        for claim in left:
            self.lost[claim.chunk] = _first_line(error)
            worker.take_word_back(self.pool, claim.rank)
        numbers = ", ".join(str(claim.chunk) for claim in left)
        self.progress.note(f"chunk {numbers} was given up, the rest goes on: {error}")


def _first_line(error: TiebreakError) -> str:
    return error.wrong.splitlines()[0].removesuffix("; its last lines:")
