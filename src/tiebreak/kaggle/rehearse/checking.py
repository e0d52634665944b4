"""Everything that can be known before a push: what the files say, what they hold, and how the notebook runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tiebreak.errors import DataError
from tiebreak.kaggle import metadata
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.packing import record
from tiebreak.kaggle.rehearse.memory import GIB
from tiebreak.kaggle.rehearse.outcome import Rehearsal
from tiebreak.kaggle.rehearse.rehearsal import FailedError, TooMuchError, run
from tiebreak.kaggle.wheels import house
from tiebreak.kaggle.wheels.target import KAGGLE_PYTHON
from tiebreak.listening import SILENT, Listener

MIB: Final = 2**20

_EXPECTED: Final = ("no GPU", "the time was up")
"""Why a judge that is whole may leave rows to the cheaper one."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        held: Whether it is as it should be; None: not to be seen here, or to be known.
        found: What was found.
        error: What is wrong, whole.
    """

    name: str
    held: bool | None
    found: str
    error: str = ""


@dataclass
class Checked:
    """All that was looked at.

    Attributes:
        checks: In order.
        rehearsal: The run, where it ended well.
    """

    checks: list[Check] = field(default_factory=list)
    rehearsal: Rehearsal | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is as it should not be."""
        return all(check.held is not False for check in self.checks)

    def raise_failures(self) -> None:
        """Raise what failed.

        Raises:
            DataError: Something is not as it should be; all of it is told.
        """
        if errors := [check.error for check in self.checks if check.held is False]:
            raise DataError("\n".join(errors))


def check(pack: Layout, *, keep: Path, listener: Listener = SILENT, **options: Any) -> Checked:
    """Look at everything, and rehearse the notebook where what it is made from is whole.

    Args:
        pack: The pack.
        keep: Folder for what the notebook writes.
        listener: Told what is done, and every line that the notebook prints.
        **options: Of `run`.
    """
    told = record.read(pack)  # what is no pack at all is no failed check
    found = Checked()
    for name, look in (
        ("metadata", lambda: _metadata(pack)),
        ("files", lambda: _files(pack, listener)),
        ("wheels", lambda: _wheels(pack)),
    ):
        found.checks.append(_look(name, look))
    found.checks += _kaggle_python(pack) if found.good else []
    if not found.good:
        found.checks.append(Check("notebook", None, "not run"))
        return found
    if house.read(pack.wheels).torch == "image only":
        found.checks.append(_not_here(pack))
        return found
    try:
        found.rehearsal = run(pack, keep=keep, listener=listener, **options)
    except FailedError as error:
        found.checks.append(Check("notebook", False, "failed", str(error)))
    except DataError as error:
        found.checks.append(Check("notebook", False, "not run", str(error)))
    except TooMuchError as error:
        found.checks.append(Check("notebook", False, "took too much", str(error)))
    else:
        found.checks += _of_run(found.rehearsal, told.settings.otherwise)
    return found


def _kaggle_python(pack: Layout) -> list[Check]:
    """No fault: the notebook copes with another Python. But it has run here with the Python of the wheels alone."""
    told = house.read(pack.wheels).on_kaggle()
    return [Check("python", None, f"{told} (tiebreak kaggle pack --python {KAGGLE_PYTHON})")] if told else []


def _look(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except DataError as error:
        return Check(name, False, str(error).splitlines()[0], str(error))


def _not_here(pack: Layout) -> Check:
    """A network judge whose torch is in Kaggle's image alone: there is nothing here that could run it."""
    error = DataError(
        f"{pack.wheels}: torch is not among the wheels, so that the notebook cannot be run here",
        expected="a build of torch without CUDA among the wheels, which Kaggle's notebook leaves out",
        mend="tiebreak kaggle pack where the package index has one",
    )
    return Check("notebook", False, "cannot be run here: torch is in Kaggle's image alone", str(error))


def _metadata(pack: Layout) -> str:
    metadata.check(pack)
    return f"{2 + (1 + len(pack.instances()) if pack.model.is_dir() else 0)} files, every rule of Kaggle's client kept"


def _files(pack: Layout, listener: Listener) -> str:
    parts = record.check(pack, listener).parts.values()
    return f"{sum(len(part.files) for part in parts):,} as packed, {sum(part.bytes for part in parts) / MIB:,.0f} MiB"


def _wheels(pack: Layout) -> str:
    found = house.verify(pack.wheels)
    return f"{len(found.wheels)} for Python {found.python} on {found.platform}, {found.bytes / MIB:,.0f} MiB, closed"


def _of_run(ran: Rehearsal, otherwise: str) -> list[Check]:
    written = f"no writing ({ran.walls.input})" if ran.walls.input else "copies, unchanged"
    return [
        Check("network", True, f"{ran.walls}; tried by the notebook: {ran.connections}"),
        Check("input", True, f"read-only: {written}"),
        Check("notebook", True, f"{ran.seconds:.1f} s from nothing, {ran.peak / GIB:.2f} GiB of {ran.limit / GIB:.1f}"),
        _judge(ran, otherwise),
        Check("submission", True, f"{ran.rows:,} rows, its columns, ids and numbers as Kaggle wants them"),
    ]


def _judge(ran: Rehearsal, otherwise: str) -> Check:
    """A whole submission may hide that the judge is broken: then the cheaper one answered."""
    if not ran.rows_otherwise:
        return Check("judge", True, f"{ran.report.get('judge') or 'the notebook'} answered every row")
    found = f"{otherwise} answered {ran.rows_otherwise:,} of {ran.rows:,} rows: {ran.reason}"
    if (ran.reason or "").startswith(_EXPECTED):
        return Check("judge", None, found)
    return Check("judge", False, found.splitlines()[0], f"the judge failed, and {found}")
