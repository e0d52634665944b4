"""The cache of wheels, and in it a folder for each run of pip, which is gone when the run ends, however it ends.

pip leaves what it has fetched so far where it is when it is killed, and it fetches whole wheels to read what they need:
that may be gigabytes. Its temporary files are therefore kept where the next run finds and removes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from tiebreak import locking, storage
from tiebreak.errors import ResourceError

_AT_WORK: Final = "at-work-"
_LOCK: Final = "lock"


def folder() -> Path:
    """The folder of the wheels that were fetched, made where there is none.

    Raises:
        ResourceError: It cannot be made.
    """
    place = storage.cache_folder() / "wheels"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"the cache {place} cannot be made: {error.strerror or error}",
            mend=f"{storage.CACHE}=FOLDER with a folder that can be written",
        ) from error
    return place


@contextmanager
def room() -> Iterator[Path]:
    """An empty folder, on the disk of the cache; what killed runs left of theirs is removed first.

    Raises:
        ResourceError: The cache cannot be made.
    """
    place = folder()
    for left in place.glob(f"{_AT_WORK}*"):
        if not locking.is_held(left / _LOCK):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(mkdtemp(dir=place))
    lock = locking.hold(made / _LOCK)
    made = made.rename(place / f"{_AT_WORK}{made.name}")  # only now can another run take it for abandoned
    try:
        yield made
    finally:
        if lock is not None:
            lock.close()
        shutil.rmtree(made, ignore_errors=True)
