"""A bundle as it leaves this machine: whole, without paths of this machine, with at most one base beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Final

from tiebreak import bundle, judges, storage
from tiebreak.bundle import MANIFEST, Manifest, TrainingSource
from tiebreak.errors import BundleError, UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.base.loading import checkpoint
from tiebreak.judges.base.locate import weight_files
from tiebreak.judges.base.names import Located
from tiebreak.judges.members import FOLDER, Member
from tiebreak.kaggle.packing import bases
from tiebreak.kaggle.packing.bases import Need, Packed

Content = bytes | Path

_BASE: Final = {"retrieval": "encoder"}
"""Setting that names the base, of kinds that do not call it `base`."""

_TEXTS: Final = ("README.md", "adapter_config.json")
"""Files of a bundle, beside its manifest, that name places."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_INDEX: Final = "model.safetensors.index.json"


@dataclass(frozen=True)
class Portable:
    """A bundle that can leave.

    Attributes:
        manifest: Of the judge, with the bases renamed.
        files: All its files by their path within the bundle, `judge.json` among them.
        base: The model beside it; None: all weights are inside.
        training: What it and its members were trained on, each data set once.
        notes: What was changed on the way, for the user.
    """

    manifest: Manifest
    files: dict[str, Content]
    base: Packed | None
    training: tuple[TrainingSource, ...]
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of its `judge.json`: how the notebook knows it."""
        return sha256(self.files[MANIFEST])

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(size(content) for content in self.files.values())


def make(directory: Path, *, given: tuple[str, ...] = (), on_kaggle: bool = False) -> Portable:
    """Make a bundle fit to leave.

    Args:
        directory: The bundle.
        given: Where bases lie here, if not where they were at training.
        on_kaggle: Whether the base beside it is on Kaggle already and need not be here.

    Raises:
        BundleError: It is no bundle, is damaged, or a member is.
        UsageError: It asks a server, holds a table in place of a judge, or a base is not here.
        DataError: A base has other weights than the judge was made on.
    """
    whole = _whole(directory, bundle.read(directory))
    beside = bases.beside(list(_needs(whole)))
    if on_kaggle and beside is None:
        raise UsageError(f"{directory} holds all its weights", expected="no --base-model with this judge")
    packed = None
    if beside is not None:
        here = None if on_kaggle else bases.locate(beside, given)
        packed = Packed(bases.called(beside), beside.sha256 or "", {}) if here is None else bases.packed(beside, here)
    maker = _Maker(given, beside)
    files = maker.files(whole)
    content = files[MANIFEST]
    text = content.decode() if isinstance(content, bytes) else content.read_text(encoding="utf-8")
    return Portable(Manifest.model_validate_json(text), files, packed, tuple(maker.training), tuple(maker.notes))


def size(content: Content) -> int:
    """Bytes of a file."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def sha256(content: Content) -> str:
    """The sha256 of a file, as hex."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else storage.sha256(content)


@dataclass
class _Judge:
    """A bundle and those within it, wherever they lie."""

    place: str
    directory: Path
    manifest: Manifest
    members: list[_Judge] = field(default_factory=list)

    def under(self, name: str) -> str:
        return f"{self.place}/{name}" if self.place else name


def _whole(directory: Path, manifest: Manifest, place: str = "") -> _Judge:
    _refuse_served(directory, manifest)
    found = _Judge(place, directory, manifest)
    if manifest.kind in judges.COMPOSITE:
        taken: set[str] = set()
        for number, given in enumerate(_members(manifest)):
            name = _within(given, number, taken)
            taken.add(name)
            where, inner = _member(given, directory)
            found.members.append(_whole(where, inner, found.under(name)))
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


def _base(manifest: Manifest) -> Base | None:
    document = manifest.settings.get(_BASE.get(manifest.kind, "base"))
    return Base.model_validate(document) if isinstance(document, dict) else None


def _needs(judge: _Judge) -> Iterator[Need]:
    if (base := _base(judge.manifest)) is not None:
        yield Need(judge.place, base, judge.manifest.kind not in _BASE)
    for member in judge.members:
        yield from _needs(member)


class _Maker:
    """Writes the files of a judge and of its members anew, where they must be others than they were."""

    def __init__(self, given: tuple[str, ...], beside: Base | None) -> None:
        self.given = given
        self.beside = beside
        self.notes: list[str] = []
        self.training: list[TrainingSource] = []

    def files(self, judge: _Judge) -> dict[str, Content]:
        """All files of a judge by their path within it."""
        changed = judge.manifest.model_dump(mode="json")
        folders = tuple(f"{name}/" for name in self._old_places(judge))
        found: dict[str, Content] = {
            name: judge.directory / name for name in judge.manifest.files if not name.startswith(folders)
        }
        sums = {name: judge.manifest.files[name] for name in found}
        for number, member in enumerate(judge.members):
            within = member.place.removeprefix(f"{judge.place}/") if judge.place else member.place
            inner = self.files(member)
            found |= {f"{within}/{name}": content for name, content in inner.items()}
            changed["settings"]["members"][number] |= {"place": within, "sha256": None}
        found |= self._settle_base(judge, changed)
        found |= self._without_places(judge, changed, found)
        for name, content in found.items():
            known = sums.get(name)
            kept = known is not None and content == judge.directory / name
            changed["files"][name] = known if kept else sha256(content)
        changed["files"] = {name: changed["files"][name] for name in sorted(found)}
        original = json.loads((judge.directory / MANIFEST).read_text(encoding="utf-8"))
        same = Manifest.model_validate(changed) == Manifest.model_validate(original)
        found[MANIFEST] = judge.directory / MANIFEST if same else _dumped(changed)
        return found

    def _old_places(self, judge: _Judge) -> list[str]:
        """Folders of members within the bundle as it is: their files come from the members themselves."""
        return [str(one.place) for one in _members(judge.manifest) if one.place and one.sha256 is None]

    def _settle_base(self, judge: _Judge, changed: dict[str, Any]) -> dict[str, Content]:
        """Rename the base that lies beside the judge; put any other one into its bundle."""
        base = _base(judge.manifest)
        if base is None:
            return {}
        key = _BASE.get(judge.manifest.kind, "base")
        if self.beside is not None and base.sha256 == self.beside.sha256:
            changed["settings"][key]["name"] = bases.portable(base)
            return {}
        located = bases.locate(base, self.given)
        changed["settings"][key] = None
        folder = checkpoint(located)
        index = folder / _INDEX
        paths = [folder / "config.json", *weight_files(Located(base, folder)), *([index] if index.is_file() else [])]
        self.notes.append(f"{judge.place or 'the judge'}: its base {bases.called(base)} was put into its bundle")
        return {path.name: path.resolve() for path in paths}

    def _without_places(
        self, judge: _Judge, changed: dict[str, Any], found: Mapping[str, Content]
    ) -> dict[str, Content]:
        """Shorten the paths of this machine to their last part, in the manifest and in what says the same."""
        seen: dict[str, str] = {}
        if (base := _base(judge.manifest)) is not None and base.name != bases.portable(base):
            seen[base.name] = bases.portable(base)
        for part in ("training", "metrics"):
            changed[part] = _mapped(changed[part], seen)
        sources = [TrainingSource.model_validate(source) for source in changed["training"]]
        self.training += [source for source in sources if source not in self.training]
        if isinstance(changed["settings"].get("recipe"), dict):
            changed["settings"]["recipe"] = _mapped(changed["settings"]["recipe"], seen)
        texts: dict[str, Content] = {}
        for name in _TEXTS:
            content = found.get(name)
            if isinstance(content, Path):
                texts |= _text(name, content, seen)
        if seen:
            where = judge.place or "the judge"
            self.notes.append(
                f"{where}: {len(seen)} path{'s' if len(seen) > 1 else ''} of this machine shortened to a name"
            )
        return texts


def _text(name: str, path: Path, seen: dict[str, str]) -> dict[str, Content]:
    """A text of the bundle without the paths that were met, and without those in a JSON document of its own."""
    text = path.read_text(encoding="utf-8")
    if name.endswith(".json"):
        _mapped(json.loads(text), seen)
    shorter = text
    for place in sorted(seen, key=len, reverse=True):
        shorter = shorter.replace(place, seen[place])
    return {name: shorter.encode()} if shorter != text else {}


def _mapped(value: Any, seen: dict[str, str]) -> Any:
    """A JSON value with the paths in it shortened; each that was met goes to `seen`."""
    if isinstance(value, str) and _is_place(value):
        seen.setdefault(value, re.split(r"[\\/]", value.rstrip("\\/"))[-1])
        return seen[value]
    return _inside(value, lambda inner: _mapped(inner, seen))


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: change(inner) for key, inner in value.items()}
    return [change(inner) for inner in value] if isinstance(value, list) else value


def _is_place(text: str) -> bool:
    """Whether a text is a path of some machine and not words that begin with a stroke."""
    if "\n" in text or len(text) > 1024 or not re.search(r"\w", text):
        return False
    rooted = text.startswith(("/", "~/", "\\\\")) or bool(PureWindowsPath(text).drive)
    return rooted and len(re.split(r"[\\/]", text.strip("\\/"))) > 1


def _dumped(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
