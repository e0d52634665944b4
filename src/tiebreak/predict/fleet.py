"""Worker processes on this machine: started, watched, started again, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tiebreak.errors import MissingExtraError
from tiebreak.predict import worker

WORKER: Final = "tiebreak.predict.worker"
PATIENCE: Final = 20.0
HASTE: Final = 3.0
"""Seconds for the end of a process that was killed: one that hangs in a driver takes longer, and may."""

LAST_LINES: Final = 12


@dataclass
class Crew:
    """One process that the driver starts, and the workers that live and die with it.

    Attributes:
        ranks: Its workers: one where the driver starts the worker itself, all of them under `torch.distributed.run`.
        command: The program.
        environment: Variables beside those of the driver.
        log: Where its output goes.
        deaths: How often it died since a chunk was finished last.
    """

    ranks: tuple[int, ...]
    command: list[str]
    environment: dict[str, str]
    log: Path
    deaths: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process, out of reach of the terminal's Ctrl-C."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def died(self) -> int | None:
        """The exit code of a process that ended and should not have; None while all is well."""
        code = None if self.process is None else self.process.poll()
        return code or None

    def stop(self) -> None:
        """End the process and its workers."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """End the process and those that it started at once, whatever they are at; nobody is waited for long."""
        if self.process is None or self.process.poll() is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(HASTE)
        self.process = None


def local(parts: Path, log: Path, workers: int) -> list[Crew]:
    """Workers that the driver starts one by one."""
    command = [sys.executable, "-m", WORKER, str(parts)]
    return [
        Crew(
            (rank,), command,
            {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers), "LOCAL_WORLD_SIZE": str(workers)}
            | _threads(workers),
            log,
        )
        for rank in range(workers)
    ]  # fmt: skip


def torchrun(parts: Path, log: Path, workers: int) -> list[Crew]:
    """Workers as data-parallel ranks under `torch.distributed.run`.

    Raises:
        MissingExtraError: torch is not installed.
    """
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "llm", "--engine torchrun")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    return [Crew(tuple(range(workers)), [*command, "-m", WORKER, str(parts)], _threads(workers), log)]


def _threads(workers: int) -> dict[str, str]:
    share = str(worker.threads(workers))
    # Whoever set a number of threads meant it; a worker must not take all cores each.
    return {name: os.environ.get(name, share) for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")}


def stop(crews: Sequence[Crew]) -> None:
    """End all of them, first asked and then made to; whoever presses Ctrl-C again does not want to wait."""
    try:
        for crew in crews:
            if crew.process is not None and crew.process.poll() is None:
                crew.process.terminate()
        for crew in crews:
            crew.stop()
    except KeyboardInterrupt:
        for crew in crews:
            crew.kill()
        raise


def cause(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name


def last_lines(*logs: Path) -> str:
    """The end of the first of these logs that holds anything."""
    for log in logs:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        if kept := [line for line in lines if line.strip()][-LAST_LINES:]:
            return "\n".join(f"  | {line}" for line in kept)
    return "  | (it wrote nothing)"
