"""What of a pack goes to Kaggle, each with the name that it has there and a digest of what it holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tiebreak import storage
from tiebreak.errors import DataError
from tiebreak.kaggle import layout
from tiebreak.kaggle.layout import Layout

Kind = Literal["wheels", "model", "instance", "kernel"]
KINDS: Final[tuple[Kind, ...]] = ("wheels", "model", "instance", "kernel")
_METADATA: Final[dict[Kind, str]] = {
    "wheels": layout.DATASET_METADATA,
    "model": layout.MODEL_METADATA,
    "instance": layout.INSTANCE_METADATA,
    "kernel": layout.KERNEL_METADATA,
}


@dataclass(frozen=True)
class Target:
    """One thing on Kaggle.

    Attributes:
        kind: What it is.
        name: Its place in the pack: wheels, model, judge, base or kernel.
        id: How Kaggle calls it: OWNER/SLUG, and OWNER/MODEL/FRAMEWORK/VARIATION for an instance.
        folder: Where it lies.
        metadata: What its metadata file says.
        files: The files that are uploaded, and their sizes in bytes.
    """

    kind: Kind
    name: str
    id: str
    folder: Path
    metadata: dict[str, Any]
    files: dict[str, int]

    @property
    def bytes(self) -> int:
        """Bytes to upload."""
        return sum(self.files.values())

    def digest(self) -> str:
        """sha256 of the names and bytes that are uploaded."""
        lines = "".join(f"{name} {storage.sha256(self.folder / name)}\n" for name in sorted(self.files))
        return hashlib.sha256(lines.encode()).hexdigest()

    def card(self) -> str:
        """sha256 of what its metadata file says, however it is written."""
        return hashlib.sha256(json.dumps(self.metadata, sort_keys=True).encode()).hexdigest()


def read(pack: Layout) -> list[Target]:
    """What is in a pack, in the order in which it goes: each after what it refers to.

    Raises:
        DataError: A metadata file is missing or is no JSON.
    """
    found = [_target(pack.wheels, "wheels", "wheels")]
    if (pack.model / layout.MODEL_METADATA).is_file():
        found.append(_target(pack.model, "model", "model"))
        found += [_target(folder, "instance", folder.name) for folder in pack.instances()]
    return [*found, _target(pack.kernel, "kernel", "kernel")]


def kernel_id(pack: Layout) -> str:
    """OWNER/SLUG of a pack's notebook."""
    return _target(pack.kernel, "kernel", "kernel").id


def competition(kernel: Target) -> str:
    """The competition that a notebook is for.

    Raises:
        DataError: It is for none.
    """
    sources = kernel.metadata.get("competition_sources") or []
    if not sources:
        raise DataError(f"{kernel.folder / layout.KERNEL_METADATA} names no competition", mend="tiebreak kaggle pack")
    return str(sources[0])


def with_versions(kernel: Target, versions: dict[str, int]) -> dict[str, Any]:
    """A notebook's metadata, its model sources naming the versions that are on Kaggle.

    Args:
        kernel: The notebook.
        versions: By the four parts of an instance, the number of its version.
    """
    known = {id.lower(): number for id, number in versions.items()}
    sources = []
    for source in kernel.metadata.get("model_sources") or []:
        instance, _, number = str(source).rpartition("/")
        sources.append(f"{instance}/{known.get(instance.lower(), number)}")
    return {**kernel.metadata, "model_sources": sources} if sources else dict(kernel.metadata)


def _target(folder: Path, kind: Kind, name: str) -> Target:
    path = folder / _METADATA[kind]
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}", expected="a pack", mend="tiebreak kaggle pack -o OUT"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}", mend="tiebreak kaggle pack") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{path} holds no JSON object", mend="tiebreak kaggle pack")
    return Target(kind, name, _id(metadata, kind, path), folder, metadata, _files(folder, kind, metadata))


def _id(metadata: dict[str, Any], kind: Kind, path: Path) -> str:
    keys: dict[Kind, tuple[str, ...]] = {
        "wheels": ("id",),
        "model": ("ownerSlug", "slug"),
        "instance": ("ownerSlug", "modelSlug", "framework", "instanceSlug"),
        "kernel": ("id",),
    }
    for key in keys[kind]:
        if not isinstance(metadata.get(key), str) or not metadata[key]:
            raise DataError(f"{path} has no {key}", mend="tiebreak kaggle pack")
    return "/".join(metadata[key] for key in keys[kind])


def _files(folder: Path, kind: Kind, metadata: dict[str, Any]) -> dict[str, int]:
    """The client uploads what lies in the folder itself: no metadata, no folders. A notebook is one file."""
    if kind == "model":
        return {}
    if kind == "kernel":
        code = folder / str(metadata.get("code_file", ""))
        if not code.is_file():
            raise DataError(f"{code} is not there", expected="the notebook that the metadata name")
        return {code.name: code.stat().st_size}
    left = set(_METADATA.values())
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()
            and path.name not in left}  # fmt: skip
