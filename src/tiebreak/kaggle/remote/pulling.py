"""`pull`: what the last run of a notebook wrote, and its log, to a folder here; the submission is held to its form."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tiebreak import storage
from tiebreak.errors import DataError
from tiebreak.kaggle.kernel import verifying
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.packing import record
from tiebreak.kaggle.remote import answers, calls, existing
from tiebreak.kaggle.remote.client import Client
from tiebreak.kaggle.remote.existing import State
from tiebreak.kaggle.remote.targets import Target
from tiebreak.predict import forms
from tiebreak.predict.forms import Submission

REPORT: Final = "tiebreak.json"
"""What the notebook says of its run."""


@dataclass(frozen=True)
class Pulled:
    """What came.

    Attributes:
        kernel: OWNER/SLUG.
        state: How the last run stands.
        files: What it wrote, as paths under the output folder.
        log: Its log, a line of text for a line; None: there was none.
        submission: The submission; None: the run wrote none.
        rows: Rows of it.
        checked: What it was held against; empty: nothing.
        report: What the notebook says of its run.
    """

    kernel: str
    state: State
    files: list[Path]
    log: Path | None
    submission: Path | None
    rows: int = 0
    checked: str = ""
    report: dict[str, Any] = field(default_factory=dict)


def outputs(client: Client, kernel: str, output: Path, *, form: Submission | None, sample: Path | None) -> Pulled:
    """Fetch what the last run of a notebook wrote.

    Args:
        client: The client.
        kernel: OWNER/SLUG.
        output: Folder for it; files of the same name are replaced, others stay.
        form: The form of the submission, where it is known.
        sample: A sample submission: columns and ids are held against it.

    Raises:
        DataError: There is no such notebook, it wrote nothing, or its submission is not valid; what came is kept.
    """
    client.credentials.require()
    run = existing.run_of(client, kernel)
    if run.state == "none":
        raise DataError(f"there is no run of {kernel} on Kaggle", mend="tiebreak kaggle push PACK")
    with _arriving(output) as folder:
        answers.require(client.call(*calls.output(kernel, folder)))
        log = _readable_log(folder, kernel.rpartition("/")[2])
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    if not names:
        raise DataError(
            f"the run of {kernel} wrote nothing; it is {run.state}{': ' if run.failure else ''}{run.failure}",
            expected="outputs of a complete run",
            mend="tiebreak kaggle status PACK",
        )
    files = [output / name for name in names]
    submission = next((path for path in files if path.name == calls.OUTPUT), None)
    rows, checked = (0, "") if submission is None else check(submission, form, sample)
    report = _report(output / REPORT)
    return Pulled(
        kernel, run.state, files, output / log if log is not None else None, submission, rows, checked, report
    )


def form_of(pack: Layout) -> Submission | None:
    """The form of a submission, as packed."""
    return record.read(pack).settings.submission if pack.record.is_file() else None


def check(submission: Path, form: Submission | None, sample: Path | None) -> tuple[int, str]:
    """Hold a submission against its form and a sample: its rows, and what it was held against.

    Raises:
        DataError: It is not valid. What stands in it may be a page with an error: the client stores those too.
    """
    header, rows = _table(submission)
    if form is None and sample is not None:
        form = forms.recognise(sample)
    if form is None:
        return len(rows), ""
    wrong = _wrong(header, rows, form, sample)
    if wrong:
        raise DataError(
            f"{submission} is not a valid submission: {'; '.join(wrong)}",
            expected=f"columns {', '.join(form.header)}, each id once",
            mend="the log beside it says what the run did",
        )
    return len(rows), f"the ids and columns of {sample}" if sample is not None else "its form"


def _wrong(header: list[str], rows: list[list[str]], form: Submission, sample: Path | None) -> list[str]:
    if sorted(header) != sorted(form.header):
        return [f"columns {', '.join(header)[:200]}"]
    ids = [row[header.index(form.id)] for row in rows]
    listed = ids
    if sample is not None:
        named, others = _table(sample)
        if sorted(named) != sorted(form.header):
            return [f"{sample} has columns {', '.join(named)}"]
        listed = [row[named.index(form.id)] for row in others]
    wrong = verifying.wrong_ids(ids, listed, ids)
    return wrong + verifying.wrong_cells(header, rows, form.model_dump())


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    held = forms.read(path).fill_null("")
    return held.columns, [list(row) for row in held.iter_rows()]


def archive(client: Client, target: Target, version: int, output: Path) -> tuple[list[Path], bool]:
    """Fetch one version of the wheels or of an instance: its files, and whether they are those of the pack.

    Raises:
        DataError: Kaggle does not give it, or what it gives is no archive.
    """
    client.credentials.require()
    with _arriving(output) as folder:
        answers.require(client.call(*calls.download(target.kind, target.id, version, folder)))
        packed = list(folder.iterdir())
        if len(packed) != 1:
            raise DataError(f"{target.id}/{version}: {len(packed)} files came", expected="one archive")
        _unpack(packed[0], folder)
        packed[0].unlink()
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    same = {str(name) for name in names} == target.files.keys() and all(
        storage.sha256(output / name) == storage.sha256(target.folder / name) for name in names
    )
    return [output / name for name in names], same


def _unpack(path: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    archive.extract(member, folder)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise DataError(f"{path.name} cannot be unpacked: {error}", expected="an archive from Kaggle") from error


@contextmanager
def _arriving(output: Path) -> Iterator[Path]:
    """A folder inside `output` to fetch into; what is there in the end moves to its place, file by file."""
    storage.make_directory(output)
    with tempfile.TemporaryDirectory(prefix=".tiebreak-", dir=output) as name:
        folder = Path(name)
        yield folder
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                place = output / path.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, place)


def _readable_log(folder: Path, slug: str) -> Path | None:
    """Kaggle's log is a JSON list of pieces with times; beside it goes one that can be read."""
    path = folder / f"{slug}.log"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        pieces = json.loads(text)
        lines = [f"{float(piece['time']):9.1f} s  {piece['data']}" for piece in pieces]
    except (ValueError, TypeError, KeyError):
        return path.relative_to(folder)
    readable = folder / "log.txt"
    readable.write_text("".join(line if line.endswith("\n") else f"{line}\n" for line in lines), encoding="utf-8")
    return readable.relative_to(folder)


def _report(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
