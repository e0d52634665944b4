"""Wheels by their sha256: from the cache, else from the index, into a folder. The second time needs no network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tiebreak import storage
from tiebreak.errors import DataError
from tiebreak.kaggle.wheels import cache
from tiebreak.kaggle.wheels.asking import LOOKS_AT, pip
from tiebreak.kaggle.wheels.resolving import Chosen
from tiebreak.kaggle.wheels.target import Target
from tiebreak.listening import SILENT, Listener


def fetch(wheels: Sequence[Chosen], target: Target, directory: Path, listener: Listener = SILENT) -> list[Path]:
    """Put wheels into a folder.

    Args:
        wheels: What was resolved.
        target: The machine they are for.
        directory: An existing folder.
        listener: Told how many have come.

    Returns:
        The files, in the order of `wheels`.

    Raises:
        PipError: One is no longer there, or has another sha256 than it had.
        ResourceError: The disk is full or the cache cannot be written.
    """
    kept = cache.folder()
    missing = [wheel for wheel in wheels if not _whole(kept, wheel)]
    if missing:
        with listener.progress("wheels", len(missing), "wheels") as advance:
            _download(missing, target, kept, lambda line: advance(line.startswith(LOOKS_AT)))
    return [_place(kept / wheel.sha256 / wheel.file, directory / wheel.file) for wheel in wheels]


def _whole(kept: Path, wheel: Chosen) -> bool:
    path = kept / wheel.sha256 / wheel.file
    if not path.is_file():
        return False
    if storage.sha256(path) == wheel.sha256:
        return True
    path.unlink()
    return False


def _download(wheels: Sequence[Chosen], target: Target, kept: Path, heard: Callable[[str], None]) -> None:
    with cache.room() as folder:
        lock = folder / "requirements.txt"
        lock.write_text("".join(line(wheel) for wheel in wheels), encoding="utf-8")
        asked = ["--no-deps", "--require-hashes", *target.options, "--dest", str(folder), "--requirement", str(lock)]
        pip(["download", *asked], f"{len(wheels)} wheels for {target} cannot be fetched", folder, heard=heard)
        for wheel in wheels:
            path = folder / wheel.file
            if not path.is_file() or storage.sha256(path) != wheel.sha256:
                raise DataError(f"pip did not bring {wheel.file}", expected=f"sha256 {wheel.sha256}")
            place = kept / wheel.sha256
            place.mkdir(exist_ok=True)
            path.replace(place / wheel.file)


def line(wheel: Chosen) -> str:
    """A wheel as a line of a lock."""
    return f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n"


def _place(source: Path, target: Path) -> Path:
    """The same file under two names where the disk can do that: torch is large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target
