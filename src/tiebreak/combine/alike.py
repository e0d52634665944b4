"""Judges of one student: what must be the same in them before their weights can be averaged, and where they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tiebreak import judges
from tiebreak.bundle import MANIFEST
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base, Located, digest, resolve
from tiebreak.judges.base.locate import verify, weight_files
from tiebreak.judges.finetuned import FinetunedJudge, Settings
from tiebreak.judges.runtime import Runtime

SHOWN: Final = 24
"""Characters of a value in a message."""


@dataclass(frozen=True)
class Member:
    """One of the judges that are combined.

    Attributes:
        path: Its bundle.
        judge: The judge; nothing of its weights is loaded yet.
        name: What it is called in tables: its folder, or as much of the path as tells it from the others.
    """

    path: Path
    judge: FinetunedJudge
    name: str

    @property
    def settings(self) -> Settings:
        """What its bundle says of the network."""
        return self.judge.settings


def expand(paths: Sequence[Path]) -> list[Path]:
    """The bundles themselves; a folder of folds (`fold-0`, `fold-1`, ...) stands for its folds, in their order."""
    found: list[Path] = []
    for path in paths:
        folds = [] if (path / MANIFEST).is_file() else [fold for fold in path.glob("fold-*") if fold.name[5:].isdigit()]
        found += sorted(folds, key=lambda fold: int(fold.name[5:])) or [path]
    return found


def names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart, all of one length."""
    places = [path.resolve().parts for path in paths]
    length = 1
    while len({place[-length:] for place in places}) < len(set(places)):
        length += 1
    return ["/".join(place[-length:]) for place in places]


def member(path: Path, name: str | None = None) -> Member:
    """Read a bundle that can be combined.

    Args:
        path: The bundle.
        name: What it is called; None: as its folder.

    Raises:
        BundleError: It is no bundle, or is damaged.
        UsageError: It is no judge with a network, or its weights were compressed.
    """
    judge = judges.load(path)
    if not isinstance(judge, FinetunedJudge):
        raise UsageError(
            f"{path} is a {judge.kind} judge, which has no network",
            expected="a judge of tiebreak train RECIPE; predictions of any judges can be blended",
            mend="tiebreak combine blend PREDICTIONS... --labels VOTES -o blended.parquet",
        )
    if getattr(judge.settings, "compression", None) is not None:
        raise UsageError(f"{path}: its weights are compressed", expected="the judge that it was compressed from")
    return Member(path, judge, name or path.resolve().name)


def check(members: Sequence[Member]) -> None:
    """Refuse judges that do not belong together.

    Raises:
        UsageError: There are fewer than two, or one bundle is named twice.
        DataError: They differ in something that an average would mix up; the message names it.
    """
    places = [one.path.resolve() for one in members]
    if len(members) < 2:
        raise UsageError(f"{len(members)} judge to average", expected="two or more, one a fold")
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise UsageError(f"{twice} is named twice", expected="each judge once; --weights lets one count more")
    for what, value in _FEATURES.items():
        found = [value(one) for one in members]
        other = next((at for at, one in enumerate(found) if one != found[0]), None)
        if other is not None:
            raise DataError(
                f"{members[0].path} and {members[other].path} differ in their {what}: {_shown(found[0])} and "
                f"{_shown(found[other])}",
                expected="judges of one student: the same base, template, head and adapter, trained on other folds",
                mend="tiebreak combine blend averages the predictions of judges that have nothing in common",
            )


def base(one: Member, runtime: Runtime) -> Base:
    """Where the weights below the adapter lie on this machine; their digest is checked.

    Raises:
        DataError: These are other weights than the judge was made on.
        UsageError: They are not on this machine.
    """
    recorded = one.settings.base
    if recorded is None:
        return Base(name=str(one.path.resolve()))
    found = recorded if runtime.base is None else Base(name=runtime.base, sha256=recorded.sha256)
    verify(resolve(found))
    return found


def _digest(one: Member) -> str | None:
    """Of the weights below the adapter; None where there is no adapter."""
    if not one.settings.adapter:
        return None
    if one.settings.base is not None:
        return one.settings.base.sha256
    return digest(weight_files(Located(Base(name=str(one.path)), one.path)))


_FEATURES: Final[dict[str, Callable[[Member], Any]]] = {
    "kind of judge": lambda one: one.judge.kind,
    "kind of weights": lambda one: "an adapter" if one.settings.adapter else "whole weights",
    "base (sha256 of its weights)": _digest,
    "template": lambda one: one.settings.template.model_dump(mode="json"),
    "rendering (fingerprint of token ids)": lambda one: one.settings.fingerprint,
    "head": lambda one: one.settings.head.kind,
    "order of outputs": lambda one: getattr(one.settings, "outputs", None),
    "pooling": lambda one: one.settings.pooling,
    "bits of the base": lambda one: one.settings.quantize or "as stored",
    "soft capping": lambda one: one.settings.soft_capping,
    "spellings of verdicts": lambda one: getattr(one.settings, "verdicts", None),
    "examples": lambda one: one.judge.manifest.files.get("shots.json"),
    "swap policy": lambda one: getattr(one.settings, "swap", None),
}


def _shown(value: Any) -> str:
    """A value in a message; of a template what it is called and how much it reads."""
    if isinstance(value, dict):
        return f"{value['name']} at {value['max_length']} tokens"
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:16]}..."
