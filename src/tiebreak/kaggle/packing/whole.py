"""A bundle with all the bundles in it, wherever they lie: members of blends and cascades, and what they stand on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tiebreak import bundle, judges, storage
from tiebreak.bundle import MANIFEST, Manifest
from tiebreak.errors import BundleError, UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.members import FOLDER, Member
from tiebreak.kaggle.packing.bases import Need

_BASE: Final = {"retrieval": "encoder"}
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass
class Whole:
    """A bundle and those within it.

    Attributes:
        place: Where it lies in the bundle that leaves: empty, or `members/NAME`.
        directory: Where it lies now.
        manifest: What its `judge.json` says.
        members: The bundles within it, in the order of its settings.
    """

    place: str
    directory: Path
    manifest: Manifest
    members: list[Whole] = field(default_factory=list)

    @property
    def base_key(self) -> str:
        """Setting that names the base."""
        return _BASE.get(self.manifest.kind, "base")

    @property
    def base(self) -> Base | None:
        """The base that it refers to; None: all weights are inside."""
        document = self.manifest.settings.get(self.base_key)
        return Base.model_validate(document) if isinstance(document, dict) else None

    @property
    def called(self) -> str:
        """For messages."""
        return self.place or "the judge"

    def needs(self) -> Iterator[Need]:
        """The bases under it and under its members."""
        if self.base is not None:
            yield Need(self.place, self.base, self.manifest.kind not in _BASE)
        for member in self.members:
            yield from member.needs()

    def folders(self) -> tuple[str, ...]:
        """Folders of members within the bundle as it is now, each with a stroke at its end."""
        return tuple(f"{one.place}/" for one in _members(self.manifest) if one.place and one.sha256 is None)


def read(directory: Path) -> Whole:
    """Read a bundle and its members.

    Raises:
        BundleError: One is no bundle, is damaged, or another one than it was.
        UsageError: One asks a server, or is a table of predictions.
    """
    return _whole(directory, bundle.read(directory))


def _whole(directory: Path, manifest: Manifest, place: str = "") -> Whole:
    _refuse_served(directory, manifest)
    found = Whole(place, directory, manifest)
    if manifest.kind in judges.COMPOSITE:
        taken: set[str] = set()
        for number, given in enumerate(_members(manifest)):
            name = _within(given, number, taken)
            taken.add(name)
            where, inner = _member(given, directory)
            found.members.append(_whole(where, inner, f"{place}/{name}" if place else name))
    return found


def _members(manifest: Manifest) -> list[Member]:
    listed = manifest.settings.get("members")
    return [Member.model_validate(member) for member in listed] if isinstance(listed, list) else []


def _within(member: Member, number: int, taken: set[str]) -> str:
    """Where a member lies in the bundle that leaves."""
    if member.place is not None and member.sha256 is None:
        return member.place
    name = f"{FOLDER}/{member.name}" if _PLAIN.fullmatch(member.name) else f"{FOLDER}/member-{number + 1}"
    return f"{FOLDER}/member-{number + 1}" if name in taken else name


def _member(member: Member, around: Path) -> tuple[Path, Manifest]:
    if member.place is None:
        raise UsageError(
            f"member {member.name!r} is a table of predictions: there is no judge of it that could be packed",
            expected="a bundle whose members are all judges",
            mend="tiebreak combine blend NAME=PREDICTIONS@JUDGE ... -o BUNDLE",
        )
    if member.sha256 is None:
        return around / member.place, bundle.read(around / member.place, files=False)
    outside = Path(member.place)
    manifest = bundle.read(outside)
    if storage.sha256(outside / MANIFEST) != member.sha256:
        raise BundleError(f"{outside} is another judge than member {member.name!r} was", expected=member.sha256)
    return outside, manifest


def _refuse_served(directory: Path, manifest: Manifest) -> None:
    settings = manifest.settings
    if settings.get("served") is not None or settings.get("backend") == "openai":
        raise UsageError(
            f"{directory}: judge {manifest.name!r} asks a server, and a notebook of a code competition has no network",
            expected="a judge that runs on the machine itself",
            mend="tiebreak train RECIPE on its labels, or leave BUNDLE out for the embedded judge",
        )
