"""The same run on Ray Data: a pool of actors that hold the judge, on any number of nodes, without a shared disk.

Texts travel through Ray's object store and predictions come back to this process, which stores the parts. The bundle
must lie at the same place on every node. `RAY_ADDRESS` names a cluster; without it Ray runs here, for itself alone.
"""

from __future__ import annotations

import io
import json
import logging
import os
import secrets
import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import polars as pl

from tiebreak.errors import DataError, MissingExtraError, ResourceError, TiebreakError
from tiebreak.judges import Judge
from tiebreak.predict import worker
from tiebreak.predict.parts import Parts
from tiebreak.predict.pool import Job
from tiebreak.predict.progress import SILENT, Progress
from tiebreak.predict.run import Run, Source, chunks, finish
from tiebreak.predict.sharded import Plan
from tiebreak.predict.worker import Rank

QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_BACKEND_LOG_LEVEL": "fatal"}
RETRIES: Final = 1
"""A chunk whose actor died gets one more try."""

STORE_BYTES: Final = 512 << 20
"""Memory of the object store of a Ray of our own; what does not fit goes to disk."""


class Judging:
    """What each actor holds: the judge, loaded once, by the first chunk."""

    def __init__(self, job: Job, attempts: Any) -> None:
        self.job, self.attempts = job, attempts
        self.judge: Judge | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Judge one chunk: its number and its texts in; its number and its predictions out, or an error in words."""
        number, texts = int(batch["chunk"][0]), batch["table"][0]
        try:
            self._begin(number)
            if self.judge is None:
                self.judge = worker.load(self.job, Rank())
            table = self.judge.predict(pl.read_parquet(io.BytesIO(texts)))
        except TiebreakError as error:  # raised on purpose: Ray would wrap it into pages of its own, and try again
            return {"chunk": [number], "table": [b""], "error": [json.dumps(worker.words(error))]}
        return {"chunk": [number], "table": [_packed(table)], "error": [""]}

    def _begin(self, number: int) -> None:
        attempt = import_module("ray").get(self.attempts.begin.remote(number))
        if attempt > 1 + RETRIES:
            raise ResourceError(
                f"two actors died with chunk {number}",
                expected="an actor that lives to the end of its chunk",
                mend="more memory, a smaller --max-tokens or fewer --workers; then the same command with --resume "
                "(finished parts are kept)",
            )


class Attempts:
    """Counts, in an actor of its own that outlives the others, how often each chunk was begun."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Count one more attempt and say which it is."""
        self.counts[number] += 1
        return self.counts[number]

    def repeated(self) -> list[int]:
        """Chunks that were begun more than once."""
        return sorted(number for number, count in self.counts.items() if count > 1)


def predict_ray(tables: Iterable[pl.DataFrame], plan: Plan, progress: Progress = SILENT) -> Run:
    """Judge with an actor pool of Ray Data.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: An interrupted run is in the way, is another run's, or is being worked on.
        ResourceError: The cluster cannot be reached, or an actor died twice; finished parts are kept.
        TiebreakError: Whatever the judge raises in an actor, as it raised it.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "--engine ray")
    with plan.begin() as parts:
        reading = _Reading(tables, parts, plan.chunk_rows, progress)
        with _ray(plan.workers) as ray:
            arrow = import_module("pyarrow")
            refs = [
                ray.put(arrow.table({"chunk": [number], "table": [_packed(table)]}))
                for number, table in reading.pending()
            ]
            progress.total(reading.rows)
            retried = _judge(ray, refs, plan, parts, progress) if refs else 0
        return finish(
            parts, reading.count, plan.output, plan.form, plan.sample, reused=reading.reused, retried=retried,
            kaggle=plan.kaggle,
        )  # fmt: skip


class _Reading:
    """Reads the input once, and gives what has no part yet."""

    def __init__(self, tables: Iterable[pl.DataFrame], parts: Parts, chunk_rows: int, progress: Progress) -> None:
        self.source = Source(tables)
        self.parts, self.chunk_rows, self.progress = parts, chunk_rows, progress
        self.count = self.rows = self.reused = 0

    def pending(self) -> Iterator[tuple[int, pl.DataFrame]]:
        try:
            for number, table in enumerate(chunks(self.source, self.chunk_rows)):
                self.count, self.rows = number + 1, self.rows + table.height
                if self.parts.finished(number, table["id"]) is None:
                    yield number, table
                else:
                    self.reused += table.height
                    self.progress.reuse(table.height)
        except DataError:
            if self.source.at_fault:
                self.parts.discard()
            raise


def _judge(ray: Any, refs: list[Any], plan: Plan, parts: Parts, progress: Progress) -> int:
    """Let the actors judge, and store each part as it comes back; how many chunks needed a second attempt."""
    # Ray Data would try a chunk that kills its actor for ever; the number of attempts is kept here.
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    gpus = _gpus_of_one(plan.runtime.devices, ray)
    judged = ray.data.from_arrow_refs(refs).map_batches(
        Judging, fn_constructor_args=(plan.job(""), attempts), batch_size=1, batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=_actors(plan, ray, gpus), max_tasks_in_flight_per_actor=2),
        num_cpus=None if os.environ.get("RAY_ADDRESS") else worker.threads(plan.workers), num_gpus=gpus or None,
    )  # fmt: skip
    try:
        for row in judged.iter_rows():
            if row["error"]:
                raise worker.revived(json.loads(row["error"]))
            table = pl.read_parquet(io.BytesIO(row["table"]))
            parts.store(int(row["chunk"]), table)
            progress.chunk(table)
        repeated: list[int] = ray.get(attempts.repeated.remote())
    except ray.exceptions.RayError as error:
        raise ResourceError(
            f"Ray gave up: {_last_line(error)}",
            expected="a cluster that lives to the end of the run",
            mend="ray status shows what there is; then the same command with --resume (finished parts are kept)",
        ) from error
    if repeated:
        progress.note(f"an actor died; done again by another: chunks {', '.join(map(str, repeated))}")
    return len(repeated)


def _gpus_of_one(devices: str, ray: Any) -> int:
    """GPUs that each actor needs; inside the actor they are cuda:0, cuda:1, and so on, whatever their real numbers."""
    if devices.startswith("cpu"):
        return 0
    if devices == "auto":
        return int(ray.cluster_resources().get("GPU", 0) > 0)
    return len(devices.split(","))


def _actors(plan: Plan, ray: Any, gpus: int) -> int:
    """As many as were asked for, else as the cluster's GPUs allow, else one for each node."""
    if plan.workers:
        return plan.workers
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return max(int(ray.cluster_resources().get("GPU", 0)) // gpus, 1) if gpus else nodes


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _packed(table: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.write_parquet(stream, compression="lz4")
    return stream.getvalue()


@contextmanager
def _hushed() -> Iterator[None]:
    """Ray's core says on stderr that it was told to say nothing."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _ray(workers: int) -> Iterator[Any]:
    """Ray, connected or started, and left again. It tells people on stdout what goes on, where data belongs."""
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    address = os.environ.get("RAY_ADDRESS")
    own = _own(workers) if address is None else {}
    if address is not None:
        _knock(address)
    ray = import_module("ray")
    import_module("ray.data")
    with redirect_stdout(io.StringIO()):
        try:
            with _hushed():
                ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _unreachable(address, error) from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield ray
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    """See that somebody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto" and the like
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> ResourceError:
    return ResourceError(
        f"Ray cannot be reached at {address or 'this machine'}: {_last_line(error)}",
        expected="a running cluster in RAY_ADDRESS, or none for a Ray of one's own",
        mend="ray status shows whether it runs",
    )


def _own(workers: int) -> dict[str, Any]:
    """A Ray for this machine alone: it listens to nobody without a token that is made anew for each run."""
    if "ray" not in sys.modules:  # it looks for the token once, when it is imported
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    return {
        "num_cpus": max(worker.cores(), workers), "include_dashboard": False, "object_store_memory": STORE_BYTES,
        # Ray takes 127.0.0.1 for a wish to be reachable and looks for another address.
        "_node_ip_address": "127.0.0.2" if sys.platform == "linux" else "127.0.0.1",
    }  # fmt: skip
