"""Judges that are made of other judges: whole bundles inside a bundle, asked as each of them would be asked alone.

What is combined is what a member would answer by itself, its calibration included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tiebreak import bundle, judges, storage
from tiebreak.bundle import Manifest
from tiebreak.errors import BundleError, UsageError
from tiebreak.judges.judge import Judge
from tiebreak.judges.runtime import Runtime

FOLDER: Final = "members"
"""Folder of a bundle that holds the bundles of its members."""


class Member(BaseModel):
    """One of the judges that another one is made of, as `judge.json` names it.

    Attributes:
        name: As it was called when they were combined.
        kind: Of judge; "table" for predictions whose judge is not known here.
        network: Whether it is a neural network, or made of some.
        swap_equivariant: Whether exchanging the answers exchanges its probabilities exactly.
        place: Its bundle: within this one (`members/NAME`), or where else it lies; None for a table.
        sha256: Of the `judge.json` of a bundle that lies elsewhere.
        cost: What one comparison costs, in a unit that all members share.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: str
    network: bool
    swap_equivariant: bool
    place: str | None
    sha256: str | None = None
    cost: float | None = Field(default=None, ge=0)


class Settings(BaseModel):
    """What the settings of every judge of several have in common.

    Attributes:
        members: The judges, in order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: tuple[Member, ...] = Field(min_length=1)

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read the settings of a bundle.

        Raises:
            BundleError: A setting is missing, unknown or of a wrong kind.
        """
        return bundle.settings(manifest, cls)

    def document(self) -> dict[str, Any]:
        """As `judge.json` holds it."""
        return self.model_dump(mode="json")

    @property
    def names(self) -> list[str]:
        """The names of the members."""
        return [member.name for member in self.members]


class CompositeJudge(Judge):
    """What a blend and a cascade share: their members.

    Args:
        manifest: What `judge.json` says.
        directory: The folder with the files of the bundle.

    Attributes:
        settings: Read from the manifest.
        runtime: How to run.
        report: What the last scoring took: how many rows each member was asked, and what it says itself.
    """

    kind: ClassVar[str]
    settings_kind: ClassVar[type[Settings]]
    settings: Settings

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        super().__init__(manifest)
        self.settings = self.settings_kind.of(manifest)
        self.runtime = Runtime()
        self.report: dict[str, Any] = {}
        self._directory = directory

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> Self:
        """Make the judge from a bundle whose manifest and files were checked already. No member is read yet."""
        return cls(manifest, directory)

    def weights(self) -> dict[str, bytes | Path]:
        """The files of the bundle beside `judge.json`, by name; those of members too."""
        return {
            path.relative_to(self._directory).as_posix(): path
            for path in sorted(self._directory.rglob("*"))
            if path.is_file() and path != self._directory / bundle.MANIFEST
        }

    @cached_property
    def members(self) -> list[Judge]:
        """The judges, in the order of the settings.

        Raises:
            UsageError: One is a table of predictions, or no longer where it was.
            BundleError: One is damaged, or another one than it was.
        """
        found = [_load(member, self._directory, self.manifest) for member in self.settings.members]
        spread(self.runtime, self.settings.names, found)
        return found

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run. A choice goes to the members that know it.

        Raises:
            UsageError: No member knows a choice, or one of them refuses it.
        """
        if runtime.chosen() or "members" in self.__dict__:
            spread(runtime, self.settings.names, self.members)
            exact = all(member.manifest.swap_equivariant for member in self.members)
            self.manifest = self.manifest.model_copy(update={"swap_equivariant": exact})
        self.runtime = runtime

    def ready(self) -> Self:
        """Load the members now and not at the first vote."""
        for member in self.members:
            if callable(ready := getattr(member, "ready", None)):
                ready()
        return self

    def _ask(self, place: int, table: pl.DataFrame) -> pl.DataFrame:
        """What a member says, by itself; what it counted goes to the report."""
        member, name = self.members[place], self.settings.names[place]
        found = member.predict(table)
        self.report["asked"] = {**self.report.get("asked", {}), name: table.height}
        if said := getattr(member, "report", None):
            self.report["members"] = {**self.report.get("members", {}), name: said}
        return found


def _load(member: Member, directory: Path, around: Manifest) -> Judge:
    if member.place is None:
        raise UsageError(
            f"member {member.name!r} is a table of predictions: the bundle holds weights for it and no judge",
            expected="judges, or NAME=PREDICTIONS@JUDGE, when the bundle is made",
            mend="tiebreak combine blend (or cascade) PREDICTIONS... --apply BUNDLE -o TABLE",
        )
    if member.sha256 is None:
        return _inside(member.place, directory, around)
    outside = Path(member.place)
    if not (outside / bundle.MANIFEST).is_file():
        raise UsageError(
            f"member {member.name!r} is not at {outside}", expected="the bundle that this one refers to",
            mend="put it back, or combine again without --refer",
        )  # fmt: skip
    if storage.sha256(outside / bundle.MANIFEST) != member.sha256:
        raise BundleError(f"{outside} is another judge than member {member.name!r} was", expected=member.sha256)
    return judges.load(outside)


def _inside(place: str, directory: Path, around: Manifest) -> Judge:
    """A member within the bundle. Its files are files of the bundle around it, which was checked."""
    if f"{place}/{bundle.MANIFEST}" not in around.files:
        raise BundleError(f"{directory}: member {place!r} is not among its files", expected="a bundle of tiebreak")
    manifest = bundle.read(directory / place, files=False)
    strange = next((name for name in manifest.files if f"{place}/{name}" not in around.files), None)
    if strange is not None:
        raise BundleError(f"{directory}: file {strange!r} of member {place!r} is missing", expected="a whole bundle")
    return judges.of_manifest(manifest, directory / place)


def spread(runtime: Runtime, names: Sequence[str], members: Sequence[Judge], *, strict: bool = True) -> None:
    """Give each of some judges the choices that it knows.

    Args:
        runtime: The choices.
        names: Of the judges, for messages.
        members: The judges.
        strict: Whether a choice that none of them knows is an error.

    Raises:
        UsageError: No judge knows a choice.
    """
    plain = Runtime()
    taken: list[dict[str, Any]] = [{} for _ in members]
    for choice in _choices(runtime):
        refusals = []
        for place, member in enumerate(members):
            try:
                member.run_with(replace(plain, **choice))
                taken[place] |= choice
            except UsageError as refusal:
                refusals.append(refusal)
        if strict and len(refusals) == len(members):
            raise UsageError(
                f"no judge among {', '.join(names)} has such a choice: {refusals[-1].wrong}",
                expected=refusals[-1].expected,
            )
    for member, known in zip(members, taken, strict=True):
        member.run_with(replace(plain, **known))


def _choices(runtime: Runtime) -> list[dict[str, Any]]:
    """What was chosen, each choice by itself; a backend and its server are one."""
    plain = Runtime()
    chosen: dict[str, Any] = {
        field.name: getattr(runtime, field.name)
        for field in fields(runtime)
        if getattr(runtime, field.name) != getattr(plain, field.name)
    }
    together: dict[str, Any] = {name: chosen.pop(name) for name in ("backend", "server") if name in chosen}
    alone: list[dict[str, Any]] = [{name: value} for name, value in chosen.items()]
    return [*alone, together] if together else alone
