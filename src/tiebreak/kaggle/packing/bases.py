"""The pretrained models under a judge: which it needs, where they lie, and which of their files a notebook reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import GGUF, PACKAGE, Base, Located, resolve
from tiebreak.judges.base.locate import verify, weight_files
from tiebreak.kaggle.packing.private import Content, Paths, size

_SMALL: Final = frozenset({".json", ".txt", ".model", ".jinja"})
"""Suffixes of what lies beside weights and is read: configurations, vocabularies, chat templates."""

_MODULES: Final = "modules.json"


@dataclass(frozen=True)
class Need:
    """A base that a judge, or a member of it, refers to.

    Attributes:
        judge: Where in the bundle: empty, or `members/NAME`.
        base: As its bundle names it.
        inside: Whether its weights could lie in that bundle too: an encoder of a retrieval judge is always outside.
    """

    judge: str
    base: Base
    inside: bool


@dataclass(frozen=True)
class Packed:
    """A base that lies beside the judge.

    Attributes:
        name: What people call it; no path of this machine.
        digest: By which bundles know it.
        files: Where each file lies now, by its path within the base; empty where Kaggle has the model already.
    """

    name: str
    digest: str
    files: dict[str, Content]

    @property
    def file(self) -> str | None:
        """The one file that is named where a base is asked for; None: its folder is."""
        return next((name for name in self.files if name.endswith(GGUF)), None)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(size(content) for content in self.files.values())


def beside(needs: Sequence[Need]) -> Base | None:
    """The one base that lies beside the judge: one place can be named to it, so others go into their bundles.

    Raises:
        UsageError: Two retrieval judges have different encoders.
    """
    outside = {need.base.sha256: need for need in needs if not need.inside}
    if len(outside) > 1:
        raise UsageError(
            f"{len(outside)} members are retrieval judges with different encoders: "
            + ", ".join(f"{need.judge} ({portable(need.base)})" for need in outside.values()),
            expected="one encoder for all, since one base can be named to a judge",
        )
    if outside:
        return next(iter(outside.values())).base
    found = [need.base for need in needs]
    counts = [base.sha256 for base in found]
    return max(found, key=lambda base: counts.count(base.sha256), default=None)


def portable(base: Base) -> str:
    """The name of a base without the place where it lies here; names of packages and of the hub stay."""
    if base.name.startswith(PACKAGE):
        return base.name
    path = Path(base.name).expanduser()
    if path.is_absolute() or path.exists() or base.name.startswith("."):
        snapshot = path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--")
        return path.parent.parent.name.removeprefix("models--").replace("--", "/") if snapshot else path.name
    return base.name


def called(base: Base) -> str:
    """What people call a base: a hub id, or the last part of any other name."""
    name = portable(base)
    if not name.startswith(PACKAGE):
        return name
    return name.removeprefix(PACKAGE).rpartition("/")[2].removesuffix(GGUF)


def locate(base: Base, given: Sequence[str]) -> Located:
    """Find a base on this machine, and see that its weights are the ones that the judge was made on.

    Args:
        base: As its bundle names it.
        given: Places that were named, tried first.

    Raises:
        UsageError: It is not here.
        DataError: What is here has other weights.
    """
    for place in given:
        found = resolve(Base(name=place))
        if base.sha256 is None or _is(found, base.sha256):
            return Located(found.base.model_copy(update={"sha256": base.sha256}), found.folder, found.gguf)
    try:
        found = resolve(base)
    except UsageError as error:
        raise UsageError(
            f"{error.wrong}: the judge cannot be packed without its base",
            expected=error.expected,
            mend=f"{error.mend + ', or ' if error.mend else ''}--base PLACE, or --base-model "
            "OWNER/MODEL/FRAMEWORK/VARIATION/VERSION where Kaggle has it",
        ) from error
    verify(found)
    return found


def check_given(given: Sequence[str], needs: Sequence[Need]) -> None:
    """See that every place that was named holds a base that is needed.

    Raises:
        UsageError: One is not there, or holds other weights.
    """
    for place in given:
        found = resolve(Base(name=place))
        if not any(need.base.sha256 is None or _is(found, need.base.sha256) for need in needs):
            wanted = ", ".join(dict.fromkeys(called(need.base) for need in needs)) or "none, it holds all its weights"
            raise UsageError(
                f"--base {place}: other weights than those that the judge was made on",
                expected=f"a base of the judge: {wanted}",
            )


def packed(base: Base, located: Located) -> Packed:
    """The base as it lies beside the judge."""
    found: dict[str, Content] = dict(files(located))
    return Packed(called(base), base.sha256 or verify(located), found | Paths().files(found))


def files(located: Located) -> dict[str, Path]:
    """The files of a base that are read, by their path within it: weights once, in one format."""
    if located.gguf is not None:
        return {located.gguf.name: located.gguf.resolve()}
    folder = located.folder
    found = [*_small(folder), *weight_files(located)]
    for name in _modules(folder):
        found += [*_small(folder / name), *sorted((folder / name).glob("*.safetensors"))]
    return {path.relative_to(folder).as_posix(): path.resolve() for path in found}


def _is(found: Located, digest: str) -> bool:
    try:
        return verify(Located(found.base.model_copy(update={"sha256": digest}), found.folder, found.gguf)) == digest
    except DataError:
        return False


def _small(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _SMALL)


def _modules(folder: Path) -> list[str]:
    """Folders of a pipeline of sentence-transformers."""
    path = folder / _MODULES
    if not path.is_file():
        return []
    steps = json.loads(path.read_text(encoding="utf-8"))
    named = [str(step.get("path") or "") for step in steps]
    return [name for name in named if name and "/" not in name and name != ".." and (folder / name).is_dir()]
