"""What a rehearsal shows: the submission held against its ids, the notebook's own report, and files for people."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import storage
from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle.rehearse.running import Ended, stamped
from tiebreak.kaggle.rehearse.sandbox import Walls
from tiebreak.kaggle.rehearse.script import Notebook
from tiebreak.kaggle.settings import Submission
from tiebreak.predict import forms
from tiebreak.predict.submission import WHOLES

SUBMISSION: Final = "submission.csv"
REPORT: Final = "tiebreak.json"
LOG: Final = "log.txt"
EXECUTED: Final = "executed.ipynb"
RESULT: Final = "rehearsal.json"
PICTURE: Final = "memory.png"


@dataclass(frozen=True)
class Rehearsal:
    """A notebook that ran here as it would on Kaggle, and ended with a whole submission.

    Attributes:
        folder: Holds all that it wrote, and `log.txt`, `executed.ipynb`, `rehearsal.json` and `memory.png`.
        submission: The submission.
        rows: In it.
        rows_otherwise: Rows of it by the cheaper judge.
        reason: Why by that one; None where there are none.
        stages: Seconds of each stage; the first is the making of the clean environment.
        seconds: Of the whole, from nothing.
        peak: The most bytes of memory that it held.
        limit: The bytes that it might hold.
        series: Seconds since the notebook's start, and bytes held.
        walls: How it was cut off.
        connections: Connections that were tried and refused.
        python: Version that it ran with.
        report: The notebook's own report.
        log: All that it printed, with times.
    """

    folder: Path
    submission: Path
    rows: int
    rows_otherwise: int
    reason: str | None
    stages: dict[str, float]
    seconds: float
    peak: int
    limit: int
    series: list[tuple[float, int]]
    walls: Walls
    connections: int
    python: str
    report: dict[str, Any]
    log: Path

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "submission": str(self.submission), "rows": self.rows, "rows_otherwise": self.rows_otherwise,
            "reason": self.reason, "stages": self.stages, "seconds": self.seconds, "peak_bytes": self.peak,
            "limit_bytes": self.limit, "python": self.python, "isolation": self.walls.kind,
            "isolation_reason": self.walls.reason, "interfaces": list(self.walls.interfaces),
            "connection_outside": self.walls.outside, "input_write": self.walls.input,
            "connections_refused": self.connections, "log": str(self.log),
        }  # fmt: skip


def claim(folder: Path | None) -> Path:
    """The folder that a run will be kept in: a temporary one, a new one, an empty one, or that of an earlier run.

    Raises:
        UsageError: It holds something else, which is not overwritten, or its parent does not exist.
        ResourceError: It cannot be made.
    """
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="tiebreak-rehearsal-"))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", expected="a folder for what the notebook writes")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / EXECUTED).is_file():
        raise UsageError(
            f"{folder} is not empty, and not of an earlier rehearsal", expected="a new folder", mend="another -o"
        )
    storage.make_directory(folder)
    return folder


def keep(working: Path, folder: Path, notebook: Notebook, ended: Ended) -> None:
    """Take over all that the notebook wrote, and write what it printed, also of a run that failed.

    What an earlier run left is removed first: its submission must not pass for one of this run.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in working.iterdir():
        if not path.is_symlink():
            shutil.move(path, folder / path.name)
    storage.write_text(folder / EXECUTED, notebook.executed(ended.lines))
    storage.write_text(folder / LOG, "".join(f"{stamped(line)}\n" for line in ended.lines))


def size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def report_of(folder: Path) -> dict[str, Any]:
    """The notebook's own report; empty where it left none."""
    try:
        said = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def check(path: Path, form: Submission, ids: pl.Series) -> int:
    """Hold a submission against the form and the ids that Kaggle expects; gives its rows.

    Raises:
        DataError: Kaggle would refuse it, or score it wrongly.
    """
    if not path.is_file():
        raise DataError(f"the notebook wrote no {path.name}", expected=f"{path.name} in /kaggle/working")
    written = forms.read(path)
    if written.columns != form.header:
        raise DataError(f"{path}: columns {', '.join(written.columns)}", expected=", ".join(form.header))
    if not written[form.id].equals(ids.alias(form.id)):
        absent, surplus = set(ids) - set(written[form.id]), set(written[form.id]) - set(ids)
        raise DataError(
            f"{path}: {written.height:,} rows; {len(absent):,} ids are missing, {len(surplus):,} are not asked for",
            expected=f"the {len(ids):,} ids of the sample submission, each once, in its order",
        )
    for column, content in form.columns.items():
        _check_column(path, written[column], content, form)
    for whole in WHOLES:
        columns = [column for column, content in form.columns.items() if content in whole]
        if len(columns) == len(whole):
            sums = written.select(pl.col(columns).cast(pl.Float64)).to_numpy().sum(axis=1)
            if not (np.abs(sums - 1) < 1e-6).all():
                raise DataError(f"{path}: {', '.join(columns)} of a row do not sum to 1")
    return written.height


def _check_column(path: Path, cells: pl.Series, content: str, form: Submission) -> None:
    if content.startswith("winner"):
        sides = ("a", "b") if content == "winner_without_tie" else ("a", "b", "tie")
        if strange := set(cells) - {form.labels[side] for side in sides}:
            raise DataError(f"{path}: {cells.name} holds {sorted(map(str, strange))[0]!r}", expected="winners")
        return
    p = cells.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    if not (np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()):
        raise DataError(f"{path}: a cell of {cells.name} is no probability", expected="numbers from 0 to 1")


def write(rehearsal: Rehearsal) -> None:
    """The result as JSON, and the picture, beside the outputs."""
    from tiebreak.kaggle.rehearse import picture

    document = rehearsal.as_dict() | {"report": rehearsal.report}
    storage.write_text(rehearsal.folder / RESULT, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    picture.draw(rehearsal, rehearsal.folder / PICTURE)
