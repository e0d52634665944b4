"""What there is to do: shards of the rows, chunks of the shards, and the parts that an interrupted run has left.

A judge with a network may round a row in another way when it stands among other rows. So chunks are the same however
the rows are cut into shards, and the shards together are the table that one run would have made, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl

from tiebreak import judges, predict, row_hashes
from tiebreak.errors import UsageError
from tiebreak.judges import Runtime
from tiebreak.predict import scale
from tiebreak.predict.parts import Parts
from tiebreak.teach.labelling.routing import Routes, routes, surprises
from tiebreak.teach.labelling.teachers import Teacher, Team

NETWORK_ROWS: Final = {"cpu": 16, "cuda": 128}
"""Rows that a judge with a network judges and stores at a time: what a stop can lose, and the grain of shards."""

_SHARD: Final = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Shard:
    """The `number`-th of `count` parts of the rows, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `I/N`.

        Raises:
            UsageError: It is no such thing.
        """
        found = _SHARD.fullmatch(text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text!r}", expected="I/N with I from 1 to N, for example 2/8")
        return cls(int(found[1]), int(found[2]))

    def path(self, output: Path) -> Path:
        """The file of this shard, beside the named output."""
        return output.with_name(f"{output.stem}.shard-{self.number}-of-{self.count}{output.suffix}")

    def rows(self, height: int, grain: int) -> tuple[int, int]:
        """First row and the row after the last one; both are multiples of `grain`, but for the end of the table."""
        grains = -(-height // grain)
        first, last = (min(grains * number // self.count * grain, height) for number in (self.number - 1, self.number))
        return first, last


@dataclass(frozen=True)
class Task:
    """What one teacher has to judge.

    Attributes:
        teacher: The judge.
        rows: Its rows in the table of the plan, in order.
        chunks: The same rows, cut into what is judged and stored at a time, by number.
        parts: Where the finished chunks of exactly this work lie.
    """

    teacher: Teacher
    rows: np.ndarray
    chunks: dict[int, np.ndarray]
    parts: Parts

    def finished(self, table: pl.DataFrame) -> int:
        """Rows whose label an interrupted run has left."""
        ids = table["id"]
        done = (rows for number, rows in self.chunks.items() if self.parts.finished(number, ids[rows]) is not None)
        return sum(len(rows) for rows in done)


@dataclass(frozen=True)
class Plan:
    """One call.

    Attributes:
        table: The rows to label: all, or those of the shard.
        content: `row_hashes.content` of each.
        routes: Who labels them.
        whole: The routes of all rows, over all shards.
        surprise: What is odd about those, in words; empty if nothing is.
        runtime: How the judges run.
        output: The file to write.
        tasks: One a teacher that has anything to label.
        identity: Fingerprint of everything that decides the output.
    """

    table: pl.DataFrame
    content: pl.Series
    routes: Routes
    whole: Routes
    surprise: str
    runtime: Runtime
    output: Path
    tasks: tuple[Task, ...]
    identity: str

    @property
    def work(self) -> Path:
        """The folder with what is done so far."""
        return beside(self.output)


def plan(
    table: pl.DataFrame, team: Team, output: Path, *, runtime: Runtime | None = None, shard: Shard | None = None
) -> Plan:
    """See what there is to do. Nothing is loaded or written.

    Args:
        table: Validated comparisons with distinct ids.
        team: The teachers.
        output: The file to write (with a shard: what its file is named after).
        runtime: Devices, precision, lengths and swap policy of judges with a network.
        shard: The part of the rows to label; None labels all.

    Raises:
        UsageError: The output is no parquet file, or a choice of the runtime does not apply to these judges.
        DataError: An id occurs twice.
    """
    if output.suffix != ".parquet":
        raise UsageError(f"-o {output}", expected="a .parquet file", mend=f"-o {output.stem}.parquet")
    runtime = runtime or Runtime()
    scale.check(team.teachers[0].manifest, runtime)
    whole = routes(table, team)
    size, grain = _sizes(whole, runtime)
    first, last = shard.rows(table.height, grain) if shard else (0, table.height)
    target = shard.path(output) if shard else output
    rows, found = table[first:last], whole.slice(first, last)
    content = row_hashes.content(rows)
    tasks = tuple(
        _task(one, found.labels[:, number], size, rows["id"], content, runtime, beside(target))
        for number, one in enumerate(team.teachers)
        if found.labels[:, number].any()
    )
    identity = _digest([team.name, runtime.max_length, [(task.parts.identity, task.teacher.fold) for task in tasks]])
    return Plan(rows, content, found, whole, surprises(table, whole), runtime, target, tasks, identity)


def beside(output: Path) -> Path:
    """Where the work on an output lies."""
    return output.with_name(f"{output.name}.run")


def _sizes(whole: Routes, runtime: Runtime) -> tuple[int, int]:
    """Rows that a chunk is cut from, and the grain of shards.

    Of these rows the busiest teacher has about as many as it should judge at a time.
    """
    judge = whole.team.teachers[0].manifest
    if not judges.has_network(judge):
        return predict.CHUNK_ROWS, 1
    busiest = max(int(whole.labels.sum(axis=0).max(initial=0)), 1)
    size = -(-NETWORK_ROWS[scale.device_kind(runtime.devices)] * len(whole.labels) // busiest)
    return max(size, 1), max(size, 1)


def _task(
    teacher: Teacher, mine: np.ndarray, size: int, ids: pl.Series, content: pl.Series, runtime: Runtime, work: Path
) -> Task:
    rows = np.flatnonzero(mine)
    chunks = dict(_cut(rows, size))
    identity = predict.identity(
        [], teacher.manifest, rows=_digest([ids[rows].to_list(), content[rows].to_list()]),
        chunks=[len(chunk) for chunk in chunks.values()], runtime=scale.decisive(teacher.manifest, runtime),
    )  # fmt: skip
    # Named by what is in them: another input, judge or option finds other parts or none, never wrong ones.
    parts = Parts(predict.beside(work / identity[:16]), identity)
    return Task(teacher, rows, chunks, parts)


def _cut(rows: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Rows by the stretch of `size` rows of the table that they stand in, with its number."""
    stretch = rows // size
    for number in np.unique(stretch):
        yield int(number), rows[stretch == number]


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()
