"""Resolutions that are kept, so that the same pack can be made again without a network and from the same wheels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import Version

from tiebreak import storage
from tiebreak.errors import ResourceError
from tiebreak.kaggle.wheels import resolving
from tiebreak.kaggle.wheels.asking import PipError
from tiebreak.kaggle.wheels.resolving import Resolution
from tiebreak.kaggle.wheels.target import Target
from tiebreak.listening import SILENT, Listener


def resolution(
    requirements: Sequence[str], target: Target, *, torch: Literal["cpu", "cuda"] = "cpu", listener: Listener = SILENT
) -> Resolution:
    """As `resolving.resolve`, kept: what was resolved before is taken where it is still what would be shipped.

    That is so where each requirement names one version, the packages they bring along have the versions of the running
    environment, and torch did not have to be left out. Otherwise the index is asked, and what is kept serves only when
    it cannot be reached.

    Raises:
        PipError: As of `resolving.resolve`.
    """
    path = _place(requirements, target, torch)
    kept = _read(path)
    if kept is not None and _still(requirements, kept):
        return kept
    try:
        found = resolving.resolve(requirements, target, torch=torch, listener=listener)
    except PipError as error:
        if kept is None or not error.unreachable:
            raise
        listener.say("the package index cannot be reached: the same wheels as the last time")
        return kept
    with suppress(OSError, ResourceError):  # what cannot be kept is resolved again
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_text(path, found.model_dump_json(indent=1) + "\n")
    return found


def _place(requirements: Sequence[str], target: Target, torch: str) -> Path:
    key = json.dumps([sorted(requirements), target.python, target.platform, torch])
    return storage.cache_folder() / "resolutions" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _read(path: Path) -> Resolution | None:
    with suppress(OSError, ValueError):
        return Resolution.model_validate_json(path.read_bytes())
    return None


def _still(requirements: Sequence[str], kept: Resolution) -> bool:
    if kept.torch == "image only":  # perhaps pip was told of an index with another build since
        return False
    if not all(str(Requirement(text).specifier).startswith("==") for text in requirements):
        return False
    here = resolving.installed(requirements)
    return all(here.get(one.name, Version(one.version).public) == Version(one.version).public for one in kept.wheels)
