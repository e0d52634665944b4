"""One worker of a run: takes a chunk, judges it, stores the part, and again until nothing is left.

Started as `python -m tiebreak.predict.worker PARTS` by the driver itself or by `torch.distributed.run`; both say by the
usual variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE) which of how many workers it is.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, Self

import polars as pl

from tiebreak import bundle, errors, judges, storage
from tiebreak.errors import TiebreakError, UsageError
from tiebreak.judges import Judge
from tiebreak.predict import lock
from tiebreak.predict.pool import Job, Pool

PAUSE: Final = 0.1
WATCH: Final = 0.5
STOPPED: Final = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Rank:
    """Which of how many workers this is, over all machines and on this one."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of_environment(cls) -> Self:
        """From the variables that `torch.distributed.run` sets, or SLURM's `srun`; alone without them."""
        rank, world = _number("RANK", "SLURM_PROCID"), _number("WORLD_SIZE", "SLURM_NTASKS")
        local = _number("LOCAL_RANK", "SLURM_LOCALID") or 0
        local_world = _number("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE") or min(
            world or 1, local + 1
        )
        return cls(rank or 0, world or 1, local, local_world)


def _number(*names: str) -> int | None:
    found = (re.match(r"\d+", os.environ.get(name, "")) for name in names)  # SLURM writes 8(x4) for four nodes of 8
    return next((int(number[0]) for number in found if number), None)


def work(pool: Pool, judge: Judge, rank: Rank, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Take chunks and judge them until all are done, or until `stop` says so."""
    parts = pool.as_parts()
    while not (stop() or pool.exhausted()):
        claim = pool.take(rank.rank, alone=rank.world == 1)
        if claim is None:
            time.sleep(PAUSE)
            continue
        try:
            parts.store(claim.chunk, judge.predict(pl.read_parquet(claim.texts)))
        except (KeyboardInterrupt, SystemExit):
            pool.give_back(claim)
            raise
        pool.done(claim)


def load(job: Job, rank: Rank) -> Judge:
    """The judge, bound to the devices of this worker."""
    directory = None if job.judge is None else Path(job.judge)
    if not judges.has_network(bundle.read(judges.EMBEDDED if directory is None else directory)):
        return judges.load(directory, job.runtime)
    gpus = _gpus()
    if "SLURM_PROCID" in os.environ and 0 < gpus < rank.local_world:
        rank = Rank()  # SLURM shows each task its own GPUs alone: there is nothing to share out
    return judges.load(directory, replace(job.runtime, devices=share(job.runtime.devices, rank, gpus)))


def share(devices: str, rank: Rank, gpus: int) -> str:
    """The devices of one worker out of those of the run.

    `auto` and `cuda` are one GPU a worker where there are any; a list of GPUs is dealt out evenly, in order, so that
    each worker splits the layers of its copy over its own share; CPUs are shared by all.

    Raises:
        UsageError: The GPUs of a list cannot be dealt out evenly, or there are fewer GPUs than workers.
    """
    if rank.local_world == 1 or devices.startswith("cpu") or (devices == "auto" and not gpus):
        return devices
    if devices in {"auto", "cuda"}:
        if gpus < rank.local_world:
            raise UsageError(
                f"{rank.local_world} workers on a machine with {gpus} GPU{'s' if gpus != 1 else ''}",
                expected="a GPU for each worker", mend=f"--workers {gpus}" if gpus else "--devices cpu",
            )  # fmt: skip
        return f"cuda:{rank.local_rank}"
    listed = devices.split(",")
    if len(listed) % rank.local_world:
        raise UsageError(
            f"--devices {devices} for {rank.local_world} workers",
            expected="as many devices for one worker as for another",
        )
    each = len(listed) // rank.local_world
    return ",".join(listed[rank.local_rank * each : (rank.local_rank + 1) * each])


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def use_threads(rank: Rank) -> None:
    """Give torch its share of the cores, where whoever started this worker did not (torchrun says 1 for safety)."""
    import torch

    if rank.local_world > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(threads(rank.local_world))


def threads(workers: int) -> int:
    """Cores for each of some workers on this machine."""
    return max(cores() // workers, 1)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: list[str]) -> int:
    """Run one worker to its end and say how it went, for the driver to read."""
    pool, rank = Pool(Path(arguments[0])), Rank.of_environment()
    _log_to(pool.directory / f"{rank.rank}.log")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to hear
    signal.signal(signal.SIGTERM, _stop)
    job = pool.job()
    if job is None:
        return STOPPED
    threading.Thread(target=_watch, args=(pool, job.session), daemon=True).start()
    try:
        work(pool, load(job, rank), rank)
    except TiebreakError as error:
        leave_word(pool, rank.rank, error)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def leave_word(pool: Pool, rank: int, error: TiebreakError) -> None:
    """Write down an error that was raised on purpose: another worker would raise it just the same."""
    storage.write_text(pool.directory / f"{rank}.error.json", json.dumps(words(error)) + "\n")


def word_of(pool: Pool, rank: int) -> TiebreakError | None:
    """The error that a worker left behind, as it was raised there."""
    try:
        return revived(json.loads((pool.directory / f"{rank}.error.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def take_word_back(pool: Pool, rank: int) -> None:
    """Forget the error that a worker left behind: it was dealt with, and its successor begins anew."""
    (pool.directory / f"{rank}.error.json").unlink(missing_ok=True)


def words(error: TiebreakError) -> dict[str, str]:
    """An error as it travels between processes."""
    return {"kind": type(error).__name__, "wrong": error.wrong, "expected": error.expected, "mend": error.mend}


def revived(words: dict[str, str]) -> TiebreakError:
    """An error that travelled, as it was raised."""
    kind: type[TiebreakError] = getattr(errors, words["kind"], TiebreakError)
    error = kind.__new__(kind)  # some kinds are made from other arguments than the three parts
    TiebreakError.__init__(error, words["wrong"], expected=words["expected"], mend=words["mend"])
    return error


def _log_to(path: Path) -> None:
    with path.open("ab") as stream:
        os.dup2(stream.fileno(), sys.stderr.fileno())


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(STOPPED)


def _watch(pool: Pool, session: str) -> None:
    """End this worker when its driver or its launcher is gone: an orphan would compete with the next run."""
    parent = os.getppid()
    while True:
        time.sleep(WATCH)
        job = pool.job()
        if job is None or job.session != session or os.getppid() != parent or not lock.is_held(pool.lock):
            with suppress(OSError):
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10 * WATCH)
            os._exit(STOPPED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
