"""A bundle as it leaves this machine: whole, without paths of this machine, with at most one base beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tiebreak import storage
from tiebreak.bundle import MANIFEST, Manifest, TrainingSource
from tiebreak.errors import UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.base.loading import checkpoint
from tiebreak.judges.base.locate import weight_files
from tiebreak.judges.base.names import Located
from tiebreak.kaggle.packing import bases, whole
from tiebreak.kaggle.packing.bases import Packed
from tiebreak.kaggle.packing.private import Content, Paths, size
from tiebreak.kaggle.packing.whole import Whole

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
    judge = whole.read(directory)
    needs = list(judge.needs())
    bases.check_given(given, needs)
    beside = bases.beside(needs)
    if on_kaggle and beside is None:
        raise UsageError(f"{directory} holds all its weights", expected="no --base-model with this judge")
    packed = None
    if beside is not None:
        here = None if on_kaggle else bases.locate(beside, given)
        packed = Packed(bases.called(beside), beside.sha256 or "", {}) if here is None else bases.packed(beside, here)
    maker = _Maker(given, beside)
    files = maker.files(judge)
    content = files[MANIFEST]
    text = content.decode() if isinstance(content, bytes) else content.read_text(encoding="utf-8")
    return Portable(Manifest.model_validate_json(text), files, packed, tuple(maker.training), tuple(maker.notes))


def sha256(content: Content) -> str:
    """The sha256 of a file, as hex."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else storage.sha256(content)


class _Maker:
    """Writes the files of a judge and of its members anew, where they must be others than they were."""

    def __init__(self, given: tuple[str, ...], beside: Base | None) -> None:
        self.given = given
        self.beside = beside
        self.notes: list[str] = []
        self.training: list[TrainingSource] = []

    def files(self, judge: Whole) -> dict[str, Content]:
        """All files of a judge by their path within it."""
        changed = judge.manifest.model_dump(mode="json")
        found: dict[str, Content] = {
            name: judge.directory / name for name in judge.manifest.files if not name.startswith(judge.folders())
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

    def _settle_base(self, judge: Whole, changed: dict[str, Any]) -> dict[str, Content]:
        """Rename the base that lies beside the judge; put any other one into its bundle."""
        base = judge.base
        if base is None:
            return {}
        if self.beside is not None and base.sha256 == self.beside.sha256:
            changed["settings"][judge.base_key]["name"] = bases.portable(base)
            return {}
        located = bases.locate(base, self.given)
        changed["settings"][judge.base_key] = None
        folder = checkpoint(located)
        index = folder / _INDEX
        paths = [folder / "config.json", *weight_files(Located(base, folder)), *([index] if index.is_file() else [])]
        self.notes.append(f"{judge.called}: its base {bases.called(base)} was put into its bundle")
        return {path.name: path.resolve() for path in paths}

    def _without_places(
        self, judge: Whole, changed: dict[str, Any], found: Mapping[str, Content]
    ) -> dict[str, Content]:
        """Shorten the paths of this machine to their last part, in the manifest and in what says the same."""
        paths = Paths()
        if (base := judge.base) is not None and base.name != bases.portable(base):
            paths.seen[base.name] = bases.portable(base)
        for part in ("training", "metrics"):
            changed[part] = paths.shortened(changed[part])
        sources = [TrainingSource.model_validate(source) for source in changed["training"]]
        self.training += [source for source in sources if source not in self.training]
        if isinstance(changed["settings"].get("recipe"), dict):
            changed["settings"]["recipe"] = paths.shortened(changed["settings"]["recipe"])
        texts = paths.files({name: content for name, content in found.items() if "/" not in name})
        if count := len(paths.seen):
            self.notes.append(
                f"{judge.called}: {count} path{'s' if count > 1 else ''} of this machine shortened to a name"
            )
        return texts


def _dumped(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
