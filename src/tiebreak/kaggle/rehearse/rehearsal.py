"""The rehearsal of a pack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiebreak.errors import DataError, ResourceError, UsageError
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.packing import record
from tiebreak.kaggle.rehearse import competition, image, inputs, outcome, running, sandbox
from tiebreak.kaggle.rehearse.memory import GIB, of_this_machine
from tiebreak.kaggle.rehearse.outcome import Rehearsal
from tiebreak.kaggle.rehearse.running import Ended
from tiebreak.kaggle.rehearse.script import Notebook
from tiebreak.kaggle.settings import Submission
from tiebreak.listening import SILENT, Listener

MEMORY: Final = 30.0
"""GiB that Kaggle gives a notebook."""

DISK: Final = 20.0
"""GiB that Kaggle keeps of what a notebook writes."""

_RESERVE: Final = 0.5
"""Hours between what Kaggle gives a notebook and what the notebook is told."""
_TAIL: Final = 12
"""Lines of a failed run that are shown with the error."""


class FailedError(DataError):
    """The notebook did not end with a whole submission, or changed what it may only read."""


class TooMuchError(ResourceError):
    """The notebook took more memory or time than it has."""


@dataclass(frozen=True)
class _Limits:
    memory: float
    hours: float
    told: float

    @classmethod
    def of(cls, memory: float, hours: float | None, told: float) -> _Limits:
        """Bytes and hours: of memory no more than there is, of time what was packed for, unless other are given."""
        if memory <= 0 or (hours is not None and hours <= 0):
            raise UsageError(f"a limit of {memory} GiB and {hours} hours", expected="numbers over 0")
        if hours is not None:
            told = round(hours - min(_RESERVE, hours / 4), 6)
        return cls(min(memory * GIB, of_this_machine()), hours or told + _RESERVE, told)


def run(
    pack: Layout, *, test: Path | None = None, sample: Path | None = None, rows: int | None = None,
    memory: float = MEMORY, hours: float | None = None, keep: Path | None = None, base: Path | None = None,
    isolation: sandbox.Isolation = "auto", interpreter: Path | None = None, mounts: inputs.Mounts = "new",
    listener: Listener = SILENT,
) -> Rehearsal:  # fmt: skip
    """Run the notebook of a pack as Kaggle would.

    In a clean environment of the wheelhouse's Python, without network, the input folder read-only and laid out as
    Kaggle mounts it, with nothing of this machine's home, caches or credentials, under a cap on memory and on time.

    Args:
        pack: The pack.
        test: The file that is judged; None takes three of our own samples.
        sample: Its sample submission; None makes one.
        rows: Rows drawn from the test file with replacement under new ids, as a hidden test set of that size.
        memory: GiB that the notebook may hold, at most what this machine has.
        hours: Hours that Kaggle would give it; it is told a little less. None: what it was packed for.
        keep: Folder for all that it writes, also if it fails; None makes a temporary one, which the caller removes.
        base: Where the base model lies here that the notebook takes from Kaggle.
        isolation: `auto` takes namespaces where this machine has them; `namespaces` goes on with nothing less;
            `python` does without.
        interpreter: The Python to make the environment with, where it is not this one or on PATH.
        mounts: How Kaggle lays out the input folder: as it does (`new`), or as it did (`old`).
        listener: Told every line that the notebook prints.

    Raises:
        FailedError: The notebook failed, left no whole submission, or wrote where it may not.
        TooMuchError: It took more memory or time than it has.
        DataError: The pack, the test file or the sample is not what it should be.
        UsageError: There is no such Python here, or no such walls, or `keep` holds something else.
    """
    began = time.monotonic()
    told = record.read(pack)
    notebook = Notebook(pack.kernel / inputs.code_file(pack))
    python = image.find(told.python, interpreter)
    limits = _Limits.of(memory, hours, told.settings.hours)
    folder = outcome.claim(keep)
    with _sandbox(isolation) as box:
        files = competition.lay_out(box.folder, told.settings, test, sample, rows)
        places = inputs.places(pack, [files.test, files.sample], base, mounts)
        listener.say(f"a clean Python {python.version} and {len(places)} input files ...")
        box.furnish(places, python)
        code = box.folder / "notebook.py"
        code.write_text(notebook.program(), encoding="utf-8")
        made = time.monotonic() - began
        process, walls = box.start(code, _environment(limits, rows))
        ended = running.follow(
            process, most=limits.memory, seconds=limits.hours * 3600,
            hear=lambda line: listener.say(running.stamped(line)),
        )  # fmt: skip
        outcome.keep(box.kaggle / "working", folder, notebook, ended)
        _hold(box, walls, notebook, ended, outcome.size(folder))
        count = _submission(folder, files, told.settings.submission, ended)
        report = outcome.report_of(folder)
        stages = {"environment": made, **(report.get("stages") or {"notebook": ended.seconds})}
        rehearsal = Rehearsal(
            folder, folder / outcome.SUBMISSION, count, report.get("rows_otherwise") or 0, report.get("reason"),
            {name: round(float(seconds), 3) for name, seconds in stages.items()}, round(time.monotonic() - began, 3),
            ended.meter.peak, int(limits.memory), ended.meter.series, walls,
            int(report.get("network_refused") or 0), python.version, report, folder / outcome.LOG,
        )  # fmt: skip
        listener.say("clearing up ...")
    outcome.write(rehearsal)
    return rehearsal


@contextmanager
def _sandbox(isolation: sandbox.Isolation) -> Iterator[sandbox.Sandbox]:
    box = sandbox.prepare(isolation)
    try:
        yield box
    finally:
        box.close()


def _environment(limits: _Limits, rows: int | None) -> dict[str, str]:
    rerun = {} if rows is None else {"KAGGLE_IS_COMPETITION_RERUN": "1"}
    return {"TIEBREAK_KAGGLE_HOURS": f"{limits.told:g}", **rerun}


def _hold(box: sandbox.Sandbox, walls: sandbox.Walls, notebook: Notebook, ended: Ended, written: int) -> None:
    """What must be so whatever the submission is like."""
    if not walls.hold:
        raise FailedError(f"the notebook could have reached the network ({walls})", expected="no way out")
    if not walls.input and walls.kind == "namespaces":
        raise FailedError("the input folder could be written", expected="a read-only file system")
    if changed := box.changed():
        raise FailedError(
            f"the notebook changed {len(changed)} of its input files (for example {changed[0]})",
            expected="/kaggle/input as it is: on Kaggle it is read-only",
        )
    if ended.why:
        raise TooMuchError(
            f"the notebook was ended: {ended.why}\n{_tail(ended)}", expected="what Kaggle gives a notebook"
        )
    if written > DISK * GIB:
        raise TooMuchError(f"the notebook left {written / GIB:.1f} GiB", expected=f"{DISK:.0f} GiB, as Kaggle keeps")
    if ended.code:
        where = notebook.name(ended.cell)
        raise FailedError(f"the notebook failed with exit code {ended.code} at {where!r}:\n{_tail(ended)}")


def _submission(folder: Path, files: competition.Competition, form: Submission, ended: Ended) -> int:
    try:
        return outcome.check(folder / outcome.SUBMISSION, form, files.ids)
    except DataError as error:
        raise FailedError(f"{error}\n{_tail(ended)}") from error


def _tail(ended: Ended) -> str:
    return "\n".join(f"  {running.stamped(line)}" for line in ended.lines[-_TAIL:])
