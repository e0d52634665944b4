"""The teachers of one call: the judges of one training, one a fold, or a single judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiebreak import bundle, judges, row_hashes, storage
from tiebreak.bundle import Manifest
from tiebreak.errors import DataError, UsageError

REVISION: Final = 16
"""Digits of the sha256 of `judge.json` that name a revision."""

_FOLD: Final = re.compile(r"(?:^|-)fold-(\d+)$")


@dataclass(frozen=True)
class Teacher:
    """One judge.

    Attributes:
        directory: Its bundle.
        manifest: What `judge.json` says.
        revision: Its first 16 digits of sha256: of its weights, its settings and its calibration.
        fold: The fold that was held out when it was trained; None for a judge without folds.
        trained: `row_hashes.unordered` of the rows it was trained on; None where the bundle does not say.
    """

    directory: Path
    manifest: Manifest
    revision: str
    fold: int | None
    trained: frozenset[str] | None

    @property
    def rendering(self) -> str | None:
        """Fingerprint of the token ids that it gives comparisons; None for a judge that reads no tokens."""
        found = self.manifest.settings.get("fingerprint")
        return found if isinstance(found, str) else None

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return "embedded" if self.directory == judges.EMBEDDED else str(self.directory)

    @property
    def title(self) -> str:
        """Its name without its fold."""
        return _FOLD.sub("", self.manifest.name)


@dataclass(frozen=True)
class Team:
    """The teachers whose labels make one table, under one name.

    Attributes:
        name: Of the teacher.
        teachers: In the order of their folds, whatever the order they were named in.
    """

    name: str
    teachers: tuple[Teacher, ...]


def read(directories: Sequence[Path], name: str | None = None) -> Team:
    """Read the bundles of one teacher and see that they go together.

    Args:
        directories: Bundles, or folders that hold bundles `fold-0`, `fold-1` and so on; none: the embedded judge.
        name: Of the teacher; None takes the judges' own name without its fold.

    Raises:
        BundleError: A bundle is damaged, or there is none.
        UsageError: A bundle is given twice, or their names differ and `name` is not given.
        DataError: The bundles are of different kinds, or give comparisons different tokens.
    """
    teachers = [_teacher(found) for directory in directories or [judges.EMBEDDED] for found in _bundles(directory)]
    teachers.sort(key=lambda one: (one.fold is None, one.fold or 0, one.revision))
    _check_distinct(teachers)
    _check_alike(teachers)
    titles = list(dict.fromkeys(one.title for one in teachers))
    if name is None and len(titles) > 1:
        raise UsageError(
            f"judges of different names: {', '.join(titles)}",
            expected="the fold teachers of one training",
            mend="one call for each, then tiebreak teach combine; or --name, if they are one teacher all the same",
        )
    return Team(name or titles[0], tuple(teachers))


def _bundles(directory: Path) -> Iterator[Path]:
    """The bundle itself, or the bundles of the folds in a folder."""
    folds = {
        int(found[1]): path
        for path in directory.glob("fold-*")
        if (found := _FOLD.fullmatch(path.name)) and (path / bundle.MANIFEST).is_file()
    }
    if (directory / bundle.MANIFEST).is_file() or not folds:
        yield directory
    else:
        yield from (folds[number] for number in sorted(folds))


def _teacher(directory: Path) -> Teacher:
    manifest = bundle.read(directory)
    revision = storage.sha256(directory / bundle.MANIFEST)[:REVISION]
    return Teacher(directory, manifest, revision, _fold(manifest, directory), row_hashes.read_trained(directory))


def _fold(manifest: Manifest, directory: Path) -> int | None:
    """As training recorded it, else as the names of judge and folder say."""
    for said in (manifest.metrics.get("fold"), manifest.settings.get("fold")):
        if isinstance(said, int):
            return said
    found = _FOLD.search(manifest.name) or _FOLD.search(directory.resolve().name)
    return int(found[1]) if found else None


def _check_distinct(teachers: Sequence[Teacher]) -> None:
    known: dict[str, Path] = {}
    for one in teachers:
        if one.revision in known:
            raise UsageError(
                f"{known[one.revision]} and {one.directory} are the same judge", expected="each judge once"
            )
        known[one.revision] = one.directory


def _check_alike(teachers: Sequence[Teacher]) -> None:
    first = teachers[0]
    for one in teachers[1:]:
        if one.manifest.kind != first.manifest.kind:
            raise DataError(
                f"{first.directory} is a {first.manifest.kind} judge, {one.directory} a {one.manifest.kind} judge",
                expected="fold teachers of one kind",
                mend="one call for each, then tiebreak teach combine",
            )
        if one.rendering != first.rendering:
            raise DataError(
                f"{first.directory} and {one.directory} read comparisons in different ways: template, length or "
                f"tokenizer differ (fingerprints {(first.rendering or '')[:16]}, {(one.rendering or '')[:16]})",
                expected="fold teachers that were trained by one recipe",
                mend="one call for each, then tiebreak teach combine",
            )
