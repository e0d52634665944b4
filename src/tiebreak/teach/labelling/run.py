"""Labelling: judges what nobody has judged yet, and joins everything into one table of soft labels."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tiebreak import judges, soft_labels, storage
from tiebreak.comparisons import SOFT
from tiebreak.errors import DataError, StoppedError, UsageError
from tiebreak.predict import Progress, lock
from tiebreak.predict.progress import SILENT
from tiebreak.stopping import Stopper
from tiebreak.teach.labelling.planning import Plan, Task
from tiebreak.teach.labelling.routing import Routes

IDENTITY: Final = "tiebreak.labels"
"""Key in the metadata of the output under which the fingerprint of its run stands."""


@dataclass(frozen=True)
class Outcome:
    """What a call did.

    Attributes:
        labels: The table, in the order of the rows.
        output: Where it is.
        judged: Rows that were judged by this call, a row counted once for each teacher that labels it.
        reused: Rows whose judgement was there already, counted in the same way.
        whole: Whether the very table was there already, so that nothing had to be done.
    """

    labels: pl.DataFrame
    output: Path
    judged: int
    reused: int
    whole: bool = False


def label(plan: Plan, *, in_sample: bool = False, progress: Progress = SILENT) -> Outcome:
    """Do what a plan says.

    Every finished chunk is kept in `OUTPUT.run` until the table is whole. Called again after a stop at any moment, it
    goes on from there and writes the same bytes; called again after the end, it does nothing.

    Args:
        plan: From `tiebreak.teach.labelling.plan`.
        in_sample: Label the rows too that every teacher was trained on; they are marked.
        progress: Hears of every finished chunk.

    Raises:
        DataError: Some rows were trained on by every teacher and `in_sample` is false.
        UsageError: Another process is at work on this output.
        StoppedError: The process was asked to stop (SIGTERM, Ctrl-C); what is finished is kept.
        ResourceError: The disk is full or the place cannot be written.
    """
    if not in_sample:
        plan.whole.refuse_in_sample()
    total = sum(len(task.rows) for task in plan.tasks)
    progress.total(total)
    if (there := _written(plan)) is not None:
        progress.reuse(total)
        shutil.rmtree(plan.work, ignore_errors=True)
        return Outcome(there, plan.output, 0, total, whole=True)
    with _working(plan), Stopper() as stopper:
        judged = [_judge(task, plan, stopper, progress) for task in plan.tasks]
        labels = join(plan, [table for table, _ in judged])
        with storage.replacing(plan.output) as aside:
            labels.write_parquet(aside, metadata={IDENTITY: plan.identity})
    shutil.rmtree(plan.work, ignore_errors=True)
    fresh = sum(count for _, count in judged)
    return Outcome(labels, plan.output, fresh, total - fresh)


def finished(plan: Plan) -> list[int]:
    """Of each task the rows that are judged already."""
    if _written(plan) is not None:
        return [len(task.rows) for task in plan.tasks]
    return [task.finished(plan.table) for task in plan.tasks]


def _written(plan: Plan) -> pl.DataFrame | None:
    """The output, if it is there and is what this plan would write."""
    try:
        if pl.read_parquet_metadata(plan.output).get(IDENTITY) != plan.identity:
            return None
        return soft_labels.validate(pl.read_parquet(plan.output))
    except (OSError, pl.exceptions.PolarsError, DataError):
        return None


@contextmanager
def _working(plan: Plan) -> Iterator[None]:
    """Keep the working folder for one process.

    Raises:
        UsageError: Another one has it.
    """
    storage.make_directory(plan.work)
    held = lock.hold(plan.work / "lock")
    if held is None:
        raise UsageError(
            f"{plan.work}: another process is at work on this output",
            expected="one run at a time for one output",
            mend="wait for the other run to end, or write to another file; --shard I/N shares the rows out",
        )
    try:
        yield
    finally:
        held.close()


def _judge(task: Task, plan: Plan, stopper: Stopper, progress: Progress) -> tuple[pl.DataFrame, int]:
    """What one teacher says of its rows, in order, and how many of them were judged now."""
    storage.make_directory(task.parts.directory)
    judge: judges.Judge | None = None
    fresh, tables = 0, []
    for number, rows in task.chunks.items():
        chunk = plan.table[rows]
        kept = task.parts.finished(number, chunk["id"])
        if kept is None:
            if stopper.asked:
                raise StoppedError("stopped; what is judged is kept", mend="the same command goes on from there")
            judge = judge or judges.load(task.teacher.directory, plan.runtime)
            table = judge.predict(chunk)
            task.parts.store(number, table)
            fresh += len(rows)
        else:
            table = kept
        progress.chunk(table, judged=kept is None)
        tables.append(table.select(*SOFT, "swap_gap", "truncated"))
    if judge is not None and judges.has_network(judge.manifest):
        del judge
        _let_go()
    return pl.concat(tables), fresh


def _let_go() -> None:
    """Give the memory of one teacher back before the next is loaded: two large ones may be one too many."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def join(plan: Plan, said: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One table of soft labels from what each teacher says of its rows.

    A row that several teachers label gets the mean of their probabilities, the largest of their swap gaps, and no fold.

    Args:
        plan: Whose rows.
        said: For each task its predictions, a row for each of its rows.
    """
    rows, labels = plan.table.height, plan.routes.labels
    mass, gap, truncated = np.zeros((rows, 3)), np.full(rows, -np.inf), np.zeros(rows, dtype=bool)
    for task, table in zip(plan.tasks, said, strict=True):
        # One teacher after the other and side by side: swapped rows then give swapped means, to the last bit.
        mass[task.rows] += table.select(SOFT).to_numpy()
        gap[task.rows] = np.maximum(gap[task.rows], table["swap_gap"].fill_null(np.nan).to_numpy())
        truncated[task.rows] |= table["truncated"].to_numpy()
    mean = mass / labels.sum(axis=1, keepdims=True)
    revisions, folds = _provenance(plan.routes)
    return soft_labels.validate(
        pl.DataFrame(
            {
                "id": plan.table["id"],
                "content": plan.content,
                **{name: mean[:, number] for number, name in enumerate(SOFT)},
                "swap_gap": pl.Series(gap, nan_to_null=True),
                "truncated": truncated,
                "teacher": pl.Series([plan.routes.team.name], dtype=pl.String).new_from_index(0, rows),
                "revision": revisions,
                "rendering": pl.Series([_rendering(plan)], dtype=pl.String).new_from_index(0, rows),
                "fold": folds,
                "in_sample": plan.routes.in_sample,
            }
        )
    )


def _provenance(routes: Routes) -> tuple[pl.Series, pl.Series]:
    """Revision and fold of each row."""
    teachers = routes.team.teachers
    patterns, which = np.unique(routes.labels, axis=0, return_inverse=True)
    named = [[teacher for teacher, there in zip(teachers, pattern, strict=True) if there] for pattern in patterns]
    revisions = pl.Series(["+".join(one.revision for one in some) for some in named], dtype=pl.String)
    folds = pl.Series([some[0].fold if len(some) == 1 else None for some in named], dtype=pl.Int64)
    at = which.reshape(-1)
    return revisions[at], folds[at]


def _rendering(plan: Plan) -> str | None:
    """The fingerprint of the teachers' rendering, with "@TOKENS" where this run has another length than training."""
    teacher, length = plan.routes.team.teachers[0], plan.runtime.max_length
    template = teacher.manifest.settings.get("template")
    trained = template.get("max_length") if isinstance(template, dict) else None
    return teacher.rendering if length in {None, trained} else f"{teacher.rendering}@{length}"
