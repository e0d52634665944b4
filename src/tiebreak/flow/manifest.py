"""What a node read and wrote, by content: whether its work still stands is decided by this alone, never by dates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase as fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

import tiebreak
from tiebreak import storage
from tiebreak.errors import DataError
from tiebreak.flow.node import STAGES, Node
from tiebreak.flow.place import MANIFEST, Place

_PACKAGES: Final = ("numpy", "polars", "torch", "transformers", "peft", "lightgbm", "scikit-learn", "llmcompressor")


class File(BaseModel):
    """One file that was written.

    Attributes:
        sha256: Of its bytes.
        size: In bytes.
        changed: When it was written, in nanoseconds: while this and the size agree, the bytes are not read again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    size: int
    changed: int


class Manifest(BaseModel):
    """A finished node.

    Attributes:
        node: Its name.
        key: sha256 of its command and of the content of everything it read.
        command: What was run, after `tiebreak`.
        read: Everything it read -> digest of the content.
        written: Its outputs, file by file.
        beside: Names of other files that came along.
        seconds: Of the attempt that finished it.
        versions: Of what it ran with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: str
    key: str
    command: list[str]
    read: dict[str, str]
    written: dict[str, File]
    beside: list[str]
    seconds: float
    versions: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of the outputs."""
        return sum(file.size for file in self.written.values())

    def digest(self, below: str = "") -> str | None:
        """Digest of the outputs under a path, or of all; None where there is nothing."""
        chosen = sorted((name, file.sha256) for name, file in self.written.items() if _is_below(name, below))
        return _hash(chosen) if chosen else None


def of(place: Place, name: str) -> Manifest | None:
    """The manifest of a node's finished work; None where there is none that can be read."""
    return _load(place.manifest(name))


def finished_aside(place: Place, name: str) -> Manifest | None:
    """The manifest of work that is finished and has not been moved to its place."""
    return _load(place.aside(name) / MANIFEST)


def reads(place: Place, node: Node) -> dict[str, str]:
    """Everything that a node reads, with the digest of its content.

    Raises:
        DataError: Something is not there.
    """
    found: dict[str, str] = {}
    for name in node.inputs:
        inner = of(place, name)
        for path in sorted(_paths(node, name)):
            digest = None if inner is None else inner.digest(path)
            if digest is None:
                raise DataError(f"{node.name} reads {STAGES}/{name}/{path}", expected=f"that {name} is done")
            found[f"{STAGES}/{name}/{path}"] = digest
    for file in node.files:
        if not (place.root / file).is_file():
            raise DataError(f"{file} is not there", expected=f"a file that {node.name} reads")
        found[file] = storage.sha256(place.root / file)
    return found


def key(node: Node, read: dict[str, str]) -> str:
    """What makes the work of a node the same work."""
    return _hash([list(node.command), list(node.outputs), sorted(node.takes.items()), sorted(read.items())])


def stands(place: Place, node: Node) -> Manifest | None:
    """The manifest of a node's work if that is of this very command on these very contents, and is all there."""
    found = of(place, node.name)
    if found is None:
        return None
    try:
        wanted = key(node, reads(place, node))
    except DataError:
        return None
    return found if found.key == wanted and _intact(place.stage(node.name), found) else None


def make(place: Place, node: Node, read: dict[str, str], seconds: float) -> Manifest:
    """The manifest of work that lies aside.

    Raises:
        DataError: The command ended well and an output is not there.
    """
    folder = place.aside(node.name)
    written: dict[str, File] = {}
    for name in node.outputs:
        files = _files(folder / name)
        if not files:
            raise DataError(f"{node.name} ended well without writing {name}", expected=f"{name} in {folder}")
        written |= {str(file.relative_to(folder)): _file(file) for file in files}
    others = {str(file.relative_to(folder)) for file in _files(folder)} - set(written)
    return Manifest(
        node=node.name, key=key(node, read), command=list(node.command), read=read, written=written,
        beside=sorted(others), seconds=round(seconds, 3), versions=_versions(),
    )  # fmt: skip


def _load(path: Path) -> Manifest | None:
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return None


def _paths(node: Node, name: str) -> set[str]:
    """What a command names in the folder of another node."""
    mark = f"{STAGES}/{name}/"
    words = [*node.command, *node.takes.values()]
    return {word.partition(mark)[2] for word in words if mark in word}


def _is_below(name: str, below: str) -> bool:
    """Whether a path names a file: itself, its folder or its pattern; a file is read with what lies beside it."""
    return (
        not below or name.startswith((f"{below}/", f"{below}.")) or fnmatch(name, below) or fnmatch(name, f"{below}.*")
    )


def _intact(folder: Path, found: Manifest) -> bool:
    for name, file in found.written.items():
        path = folder / name
        try:
            facts = path.stat()
        except OSError:
            return False
        same = facts.st_size == file.size and facts.st_mtime_ns == file.changed
        if not same and (facts.st_size != file.size or storage.sha256(path) != file.sha256):
            return False
    return True


def _file(path: Path) -> File:
    facts = path.stat()
    return File(sha256=storage.sha256(path), size=facts.st_size, changed=facts.st_mtime_ns)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def _hash(value: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(value)).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"tiebreak": tiebreak.__version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
