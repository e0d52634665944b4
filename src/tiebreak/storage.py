"""Writing files so that a stop at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tiebreak.errors import ResourceError, UsageError

CACHE: Final = "TIEBREAK_CACHE"
"""Environment variable that names the cache folder."""


def cache_folder() -> Path:
    """Where what can be made again is kept: `TIEBREAK_CACHE`, else the folder that the system has for caches."""
    if named := os.environ.get(CACHE):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tiebreak"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tiebreak"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiebreak"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; move it into place when the block ends well, remove it otherwise.

    Works for a file and for a directory; an existing target is replaced.

    Raises:
        UsageError: The parent directory does not exist.
        ResourceError: The disk is full or the place cannot be written.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a directory", mend=f"mkdir -p {path.parent}")
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        _settle(aside)
        if aside.is_dir() and path.is_dir():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            aside.rename(path)
            shutil.rmtree(old)
        else:
            aside.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """Force the bytes to the disk, so that the rename never outlives them."""
    for file in [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_directory(path: Path) -> None:
    """Make one directory whose parent is there.

    Raises:
        UsageError: The parent directory does not exist.
        ResourceError: The place cannot be written.
    """
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise UsageError(f"{path.parent} is not a directory", mend=f"mkdir -p {path.parent}") from error
    except OSError as error:
        raise ResourceError(f"cannot make {path}: {error.strerror or error}") from error
