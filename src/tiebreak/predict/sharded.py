"""One prediction run by several workers: this process reads, watches and collects, and the workers judge.

The input is cut into the very chunks that a run in one process would make, so that the parts and the output are the
same whoever computed them. A worker that dies costs its chunk a second attempt with another worker; if that one dies
too the run stops, and all finished parts are kept.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import polars as pl

from tiebreak.errors import ResourceError
from tiebreak.judges import Runtime
from tiebreak.predict import fleet, lock, worker
from tiebreak.predict.forms import Submission
from tiebreak.predict.parts import Parts, beside
from tiebreak.predict.pool import Chunk, Claim, Job, Pool, weigh
from tiebreak.predict.progress import SILENT, Progress
from tiebreak.predict.run import Run, Source, chunks, finish
from tiebreak.predict.worker import Rank
from tiebreak.stopping import Stopper

Make = Callable[[Path, Path, int], list[fleet.Crew]]
"""From the parts, a log and a number of workers to the processes to start."""

PAUSE: Final = 0.1
ARRIVAL: Final = 600.0
"""Seconds that a rank waits for the first one to offer chunks."""

DEPARTURE: Final = 60.0
"""Seconds that the first rank waits for the others to see that all is done."""


@dataclass(frozen=True)
class Plan:
    """What is to be judged, how, and where the predictions go.

    Attributes:
        judge: Directory of the bundle; None is the embedded judge.
        runtime: How the judge is to run.
        output: File to write; it appears whole, at the end.
        form: One of `tiebreak.predict.FORMATS`.
        identity: Fingerprint of the run.
        chunk_rows: Rows judged and stored at a time.
        workers: How many workers.
        resume: Go on with an interrupted run.
        sample: A sample submission to hold a Kaggle submission against.
        kaggle: The form of a Kaggle submission, where it is not that of the sample.
    """

    judge: Path | None
    runtime: Runtime
    output: Path
    form: str
    identity: str
    chunk_rows: int
    workers: int = 1
    resume: bool = False
    sample: Path | None = None
    kaggle: Submission | None = None

    def begin(self) -> Parts:
        """Start the run or go on with it; see `Parts.begin`."""
        return Parts.begin(self.output, self.identity, resume=self.resume, chunk_rows=self.chunk_rows)

    def job(self, session: str) -> Job:
        """What the workers must know."""
        return Job(session, None if self.judge is None else str(self.judge.resolve()), self.runtime)


def predict_local(tables: Iterable[pl.DataFrame], plan: Plan, progress: Progress = SILENT) -> Run:
    """Judge with worker processes on this machine.

    Raises:
        UsageError: An interrupted run is in the way, is another run's, or is being worked on.
        ResourceError: Two workers died with the same chunk, or the disk is full; the finished parts are kept.
        TiebreakError: Whatever the judge raises in a worker, as it raised it.
    """
    return _drive(tables, plan, progress, fleet.local)


def predict_torchrun(tables: Iterable[pl.DataFrame], plan: Plan, progress: Progress = SILENT) -> Run:
    """Judge with data-parallel ranks that `torch.distributed.run` starts; raises as `predict_local`."""
    return _drive(tables, plan, progress, fleet.torchrun)


def _drive(tables: Iterable[pl.DataFrame], plan: Plan, progress: Progress, make: Make) -> Run:
    with plan.begin() as parts:
        with Shift(tables, parts, plan, make, progress) as shift:
            while not shift.over():
                time.sleep(PAUSE)
        return finish(
            parts, len(shift.spool.chunks), plan.output, plan.form, plan.sample, reused=shift.spool.reused,
            retried=shift.watch.retried, kaggle=plan.kaggle,
        )  # fmt: skip


class Shift:
    """The workers of one run, what they are given and what came of it; as a context, for as long as they work."""

    def __init__(
        self, tables: Iterable[pl.DataFrame], parts: Parts, plan: Plan, make: Make, progress: Progress
    ) -> None:
        self.pool = Pool.open(parts, plan.job(uuid.uuid4().hex))
        self.crews = make(parts.directory, self.pool.directory / "launcher.log", plan.workers)
        self.spool = Spool(tables, parts, self.pool, plan.chunk_rows)
        self.watch = Watch(self.pool, parts, self.spool, progress)
        # Polars raises KeyboardInterrupt by itself where Ctrl-C meets it, and Python's own would follow in the middle
        # of the farewell: workers would be left behind.
        self.stopper = Stopper((signal.SIGINT,))

    def __enter__(self) -> Self:
        self.stopper.__enter__()
        self.spool.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            fleet.stop(self.crews)
        finally:
            self.stopper.__exit__()
            self.spool.end()

    def over(self) -> bool:
        """Look once: start whoever has work, help where somebody died; whether all is done.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed since the last look.
            TiebreakError: The input or the judge is at fault.
        """
        if self.stopper.asked:
            raise KeyboardInterrupt
        if self.watch.all_done():
            return True
        for crew in self.crews:
            if crew.process is None and self.spool.offered:
                crew.start()
            elif (code := crew.died()) is not None:
                self.overcome(crew, code)
        return False

    def overcome(self, crew: fleet.Crew, code: int) -> None:
        """A process died; see `Watch.overcome`."""
        self.watch.overcome(crew, code)


class Spool(threading.Thread):
    """Reads the input ahead of the workers and puts every chunk that has no part yet on offer.

    Attributes:
        chunks: What was read so far.
        offered: How many chunks were put on offer.
        reused: Rows whose part was there already.
        fault: What stopped the reading.
    """

    def __init__(self, tables: Iterable[pl.DataFrame], parts: Parts, pool: Pool, chunk_rows: int) -> None:
        super().__init__(daemon=True)
        self.source = Source(tables)
        self.parts, self.pool, self.chunk_rows = parts, pool, chunk_rows
        self.chunks: list[Chunk] = []
        self.offered = self.reused = 0
        self.fault: BaseException | None = None
        self._abandoned = False

    def run(self) -> None:
        """Read to the end, or to the first fault."""
        try:
            for number, table in enumerate(chunks(self.source, self.chunk_rows)):
                if self._abandoned:
                    return
                self._take(number, table)
            self.pool.close(self.chunks)
        except BaseException as fault:  # raised again in the main thread
            self.fault = fault

    def _take(self, number: int, table: pl.DataFrame) -> None:
        weight, finished = weigh(table), self.parts.finished(number, table["id"]) is not None
        chunk = Chunk(number, number * self.chunk_rows, table.height, weight, finished)
        if not finished:
            self.pool.offer(number, table, weight)
            self.offered += 1
        self.reused += table.height if finished else 0
        self.chunks.append(chunk)

    def end(self) -> None:
        """Stop reading, and forget the parts of an input that is itself at fault; no worker may be left."""
        self._abandoned = True
        self.join(timeout=10)
        if self.source.at_fault:
            self.parts.discard()


class Watch:
    """Follows a run from the files it makes."""

    def __init__(self, pool: Pool, parts: Parts, spool: Spool, progress: Progress) -> None:
        self.pool, self.parts, self.spool, self.progress = pool, parts, spool, progress
        self.retried = 0
        self._told = 0
        self._waiting: dict[int, Chunk] = {}
        self._attempts: Counter[int] = Counter()
        self._given_up: set[int] = set()
        self._total_told = False

    def all_done(self) -> bool:
        """Tell what was finished since the last look; whether that was all.

        Raises:
            TiebreakError: The input is at fault.
        """
        read = not self.spool.is_alive() and self.spool.ident is not None
        if self.spool.fault is not None:
            raise self.spool.fault
        known = self.spool.chunks[self._told :]
        self._told += len(known)
        for chunk in known:
            if chunk.finished:
                self.progress.reuse(chunk.rows)
            elif chunk.chunk not in self._given_up:
                self._waiting[chunk.chunk] = chunk
        if read and not self._total_told:
            self._total_told = True
            self.progress.total(sum(chunk.rows for chunk in self.spool.chunks))
        self._tell_finished()
        return read and not self._waiting and self._told == len(self.spool.chunks)

    def _tell_finished(self) -> None:
        if not self._waiting:
            return
        unfinished = self.pool.unfinished()
        for number in [number for number in self._waiting if number not in unfinished]:
            del self._waiting[number]
            self.progress.chunk(pl.read_parquet(self.parts.path(number)))

    def overcome(self, crew: fleet.Crew, code: int) -> None:
        """A process died: offer its chunks again and start it anew, unless that was tried already.

        Raises:
            ResourceError: Two workers died with the same chunk, or a crew dies before it takes any.
            TiebreakError: The worker raised it on purpose.
        """
        for rank in crew.ranks:
            if (error := worker.word_of(self.pool, rank)) is not None:
                raise error
        left = self.pool.left_by(crew.ranks)
        crew.deaths += not left
        for claim in left:
            self._attempts[claim.chunk] += 1
        who = self._who(crew, left)
        said = fleet.last_lines(*(self.pool.directory / f"{rank}.log" for rank in who), crew.log)
        names = ", ".join(map(str, who))
        story = f"worker {names} died ({fleet.cause(code)}) {self._where(left)}; its last lines:\n{said}\n"
        if crew.deaths > 1 or any(self._attempts[claim.chunk] > 1 for claim in left):
            raise ResourceError(
                f"{story}it was the second death {'with the same chunk' if left else 'before any chunk'}",
                expected="a worker that lives to the end of its chunk",
                mend="more memory, a smaller --max-tokens or fewer --workers; then the same command with --resume "
                "(finished parts are kept)",
            )
        self.progress.note(f"{story}the rest goes on, and {'the chunk' if left else 'the worker'} gets a second try")
        for claim in left:
            self.pool.retry(claim)
            self.retried += 1
        crew.start()

    def give_up(self, claims: Iterable[Claim]) -> None:
        """Take chunks from the pool without a part; the caller has other answers for their rows."""
        for claim in claims:
            self._given_up.add(claim.chunk)
            self._waiting.pop(claim.chunk, None)
            self.pool.done(claim)

    @staticmethod
    def _who(crew: fleet.Crew, left: list[Claim]) -> list[int]:
        found = sorted({claim.rank for claim in left if claim.rank >= 0})
        return found or list(crew.ranks)

    def _where(self, left: list[Claim]) -> str:
        if not left:
            return "before it took a chunk"
        known = {chunk.chunk: chunk for chunk in self.spool.chunks}
        spans = [known[claim.chunk] for claim in left]
        return "in " + ", ".join(
            f"chunk {chunk.chunk} (rows {chunk.first_row + 1:,} to {chunk.first_row + chunk.rows:,})" for chunk in spans
        )


def predict_as_rank(
    tables: Callable[[], Iterable[pl.DataFrame]], plan: Plan, rank: Rank, launch: str, progress: Progress = SILENT
) -> Run | None:
    """Take part in a run whose processes somebody else started: `torchrun`, or `srun` on any number of nodes.

    Rank 0 reads the input, judges as the others do, and writes the output. All ranks must see one file system.

    Args:
        tables: Opens the input; called by rank 0 alone.
        plan: The run; the same on every rank.
        rank: Which of how many this is.
        launch: A name that the ranks of this launch have in common and no other launch has.
        progress: Hears of the whole run, on rank 0.

    Returns:
        What the run did, on rank 0; None on the others.

    Raises:
        TiebreakError: As `predict_local`; the launcher then ends the other ranks.
    """
    if rank.rank:
        _join(plan, rank, launch)
        return None
    with plan.begin() as parts:
        pool = Pool.open(parts, plan.job(launch))
        spool = Spool(tables(), parts, pool, plan.chunk_rows)
        watch = Watch(pool, parts, spool, progress)
        spool.start()
        judging = _InThread(pool, plan.job(launch), rank)
        judging.start()
        try:
            while not watch.all_done():
                judging.check()
                time.sleep(PAUSE)
        finally:
            judging.stop = True
            judging.join()
            spool.end()
        _farewell(pool, rank.world, progress)
        return finish(
            parts, len(spool.chunks), plan.output, plan.form, plan.sample, reused=spool.reused, kaggle=plan.kaggle
        )


class _InThread(threading.Thread):
    """The first rank's own share of the judging, beside its reading and watching."""

    def __init__(self, pool: Pool, job: Job, rank: Rank) -> None:
        super().__init__(daemon=True)
        self.pool, self.job, self.rank = pool, job, rank
        self.stop = False
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            worker.work(self.pool, worker.load(self.job, self.rank), self.rank, stop=lambda: self.stop)
        except BaseException as fault:  # raised again in the main thread
            self.fault = fault

    def check(self) -> None:
        if self.fault is not None:
            raise self.fault


def _join(plan: Plan, rank: Rank, launch: str) -> None:
    pool = Pool(beside(plan.output))
    until = time.monotonic() + ARRIVAL
    while (job := pool.job()) is None or job.session != launch or not lock.is_held(pool.lock):
        if time.monotonic() > until:
            raise ResourceError(
                f"rank {rank.rank} of {rank.world} saw no chunk on offer in {pool.directory} within {ARRIVAL:.0f} s",
                expected="rank 0 at work, and one file system for all ranks",
                mend="look at the messages of rank 0; -o must name a place that every node sees",
            )
        time.sleep(PAUSE)
    (pool.directory / f"{rank.rank}.here").touch()
    worker.work(pool, worker.load(job, rank), rank, stop=lambda: not lock.is_held(pool.lock))
    (pool.directory / f"{rank.rank}.left").touch()


def _farewell(pool: Pool, world: int, progress: Progress) -> None:
    until = time.monotonic() + DEPARTURE
    while (missing := world - 1 - len(list(pool.directory.glob("*.left")))) and time.monotonic() < until:
        time.sleep(PAUSE)
    if missing:
        progress.note(f"{missing} of {world} ranks were not heard of again; every chunk is done all the same")


def launched() -> str | None:
    """The name of the launch that started this process as one of several ranks; None if nobody did."""
    if not ({"RANK", "WORLD_SIZE"} <= os.environ.keys() or {"SLURM_PROCID", "SLURM_STEP_ID"} <= os.environ.keys()):
        return None
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID",
             "SLURM_STEP_ID")  # fmt: skip
    return " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
