"""Host work ahead of the computation, several micro-batches in flight, results collected late."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tiebreak.engine.memory import is_out_of_memory
from tiebreak.engine.packed import Packed
from tiebreak.engine.prefix import Unit

AHEAD: Final = 3
"""Micro-batches packed before they are needed."""

IN_FLIGHT: Final = 8
"""Results that may still be under way on a GPU before the host waits for the oldest."""

_END: Final = object()


@dataclass(frozen=True)
class Job:
    """One micro-batch with the units it was made of."""

    units: list[Unit]
    packed: Packed

    @property
    def members(self) -> np.ndarray:
        """The index of each packed sequence."""
        return np.array([i for unit in self.units for i in unit.members])


class Ahead(Iterator[Any]):
    """Runs an iterator in a thread of its own, a few items before they are asked for. Safe to share between threads.

    An error of the iterator is raised where the item would have come. `close` stops the thread.
    """

    def __init__(self, items: Iterator[Any], depth: int = AHEAD) -> None:
        self._queue: Queue[Any] = Queue(depth)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._feed, args=(items,), daemon=True)
        self._thread.start()

    def _feed(self, items: Iterator[Any]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
            self._put(_END)
        except BaseException as error:  # raised again in the thread that waits for the item
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def __next__(self) -> Any:
        with self._lock:
            if self._over:
                raise StopIteration
            item = self._queue.get()
            self._over = item is _END or isinstance(item, BaseException)
        if item is _END:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop the thread, whatever is left."""
        self._closed.set()
        self._thread.join()
        while True:
            try:
                self._queue.get_nowait()
            except Empty:
                return


def drive(jobs: Ahead, work: Callable[[Job], None], workers: int) -> Job | None:
    """Do all jobs, `workers` at a time; the first one that runs out of memory stops it.

    Returns:
        The job that ran out of memory; None when all is done.
    """
    crew = _Crew(jobs, work)
    if workers == 1:
        crew.loop()
    else:
        threads = [threading.Thread(target=crew.loop, daemon=True) for _ in range(workers)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            crew.stop.set()
    if crew.errors:
        raise crew.errors[0]
    return min(crew.failed, key=lambda job: job.packed.tokens) if crew.failed else None


class _Crew:
    """Workers that take jobs from one place and stop together."""

    def __init__(self, jobs: Ahead, work: Callable[[Job], None]) -> None:
        self.jobs, self.work = jobs, work
        self.stop = threading.Event()
        self.failed: list[Job] = []
        self.errors: list[BaseException] = []

    def loop(self) -> None:
        """Jobs one after another until there are none, or one of the crew met an error."""
        try:
            while not self.stop.is_set() and (job := next(self.jobs, None)) is not None:
                self._do(job)
        except BaseException as error:
            self.errors.append(error)
            self.stop.set()

    def _do(self, job: Job) -> None:
        try:
            self.work(job)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.failed.append(job)
            self.stop.set()


class Collector:
    """Puts rows in their places. Rows of a GPU are copied behind the computation and waited for only when many are due.

    Args:
        count: How many rows there will be.
        advance: Called with the number of rows just written.
    """

    def __init__(self, count: int, advance: Callable[[int], None]) -> None:
        self._count = count
        self._advance = advance
        self._rows: np.ndarray | None = None
        self._waiting: deque[tuple[np.ndarray, Tensor, Any]] = deque()
        self._lock = threading.Lock()

    def add(self, where: np.ndarray, rows: Tensor) -> None:
        """Take the rows that belong at the indices `where`."""
        rows = rows.float()
        with self._lock:
            if not rows.is_cuda:
                self._write(where, rows)
                return
            host = rows.to("cpu", non_blocking=True)
            with torch.cuda.device(rows.device):
                arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived.record()
            self._waiting.append((where, host, arrived))
            while len(self._waiting) > IN_FLIGHT:
                self._settle()

    def finish(self) -> None:
        """Wait for every row."""
        with self._lock:
            while self._waiting:
                self._settle()

    def rows(self) -> np.ndarray:
        """float32 (count, width), once all is finished."""
        return np.empty((0, 0), dtype=np.float32) if self._rows is None else self._rows

    def _settle(self) -> None:
        where, host, arrived = self._waiting.popleft()
        arrived.synchronize()
        self._write(where, host)

    def _write(self, where: np.ndarray, rows: Tensor) -> None:
        if self._rows is None:
            self._rows = np.full((self._count, rows.shape[1]), np.nan, dtype=np.float32)
        self._rows[where] = rows.numpy()
        self._advance(len(where))
