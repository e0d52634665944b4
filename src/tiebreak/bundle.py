"""The judge bundle: one directory with everything needed to judge again.

`judge.json` names the kind of judge, its settings, calibration, training data, metrics and the sha256 of every other
file. Weights are safetensors or LightGBM text. Nothing in a bundle is ever executed or unpickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

import tiebreak
from tiebreak import storage
from tiebreak.calibration import Calibration
from tiebreak.comparisons import LABELS, Labels
from tiebreak.errors import BundleError, UsageError

Schema = TypeVar("Schema", bound=BaseModel)

SCHEMA_VERSION: Final = 1
MANIFEST: Final = "judge.json"


class TrainingSource(BaseModel):
    """One data set that a judge was trained on."""

    model_config = ConfigDict(extra="forbid")

    name: str
    rows: int
    fingerprint: str
    licence: str | None = None


class Manifest(BaseModel):
    """What `judge.json` holds."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: str
    name: str
    classes: Labels = LABELS
    swap_equivariant: bool
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    calibration: Calibration | None = None
    training: list[TrainingSource] = Field(default_factory=list)
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=lambda: {"tiebreak": tiebreak.__version__})
    files: dict[str, str] = Field(default_factory=dict)


def write(directory: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> None:
    """Write a bundle whole or not at all. The same content gives the same bytes.

    Args:
        directory: Where the bundle will be.
        manifest: What `judge.json` says, without `files`.
        files: The other files, by their path within the bundle (`members/small/judge.json`): their bytes, or (for
            weights too large for that) a file to copy.

    Raises:
        UsageError: The parent directory does not exist.
        ResourceError: The disk is full or the place cannot be written.
    """
    with storage.replacing(directory) as aside:
        aside.mkdir()
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, aside / name)
            else:
                (aside / name).write_bytes(content)
        sums = {name: storage.sha256(aside / name) for name in sorted(files)}
        document = manifest.model_copy(update={"files": sums}).model_dump(mode="json")
        (aside / MANIFEST).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(directory: Path, *, files: bool = True) -> Manifest:
    """Read and check a bundle: schema, classes, and the sha256 of every file.

    Args:
        directory: The bundle.
        files: Whether to check the files; not needed inside another bundle, whose own sums cover them.

    Raises:
        BundleError: It is not a bundle, was written by a newer version, or a file is missing or altered.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise _no_bundle(directory)
    document = _parse(path)
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version {version} is newer than this tiebreak ({tiebreak.__version__}) reads",
            expected=f"schema version {SCHEMA_VERSION}",
            mend="pip install --upgrade tiebreak",
        )
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {place}: {first['msg']}", expected="a manifest written by tiebreak") from error
    if manifest.classes != LABELS:
        raise BundleError(f"{path}: classes are {manifest.classes}", expected=f"{LABELS}")
    if files:
        _check_files(directory, manifest)
    return manifest


def settings(manifest: Manifest, schema: type[Schema]) -> Schema:
    """The settings of a judge, as its kind means them.

    Raises:
        BundleError: A setting is missing, unknown or of a wrong kind.
    """
    try:
        return schema.model_validate(manifest.settings)
    except UsageError as error:
        raise BundleError(f"judge.json: settings: {error.wrong}", expected=error.expected) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("settings", *first["loc"]))
        raise BundleError(
            f"judge.json: {place}: {first['msg']}", expected=f"the settings of a {manifest.kind} judge"
        ) from error


def _no_bundle(directory: Path) -> BundleError:
    checkpoint = next((n for n in ("config.json", "adapter_config.json") if (directory / n).is_file()), None)
    if checkpoint is not None:
        return BundleError(
            f"{directory} is a checkpoint ({checkpoint}), not a judge bundle: no {MANIFEST} in it",
            expected="a bundle, which also says how the checkpoint reads a comparison",
            mend=f"tiebreak wrap {directory} -o BUNDLE --template TEMPLATE --max-length TOKENS",
        )
    return BundleError(
        f"{directory} is not a judge bundle: no {MANIFEST} in it",
        expected="a directory written by tiebreak",
        mend=f"tiebreak train features --data VOTES -o {directory}",
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}", expected="a manifest written by tiebreak") from error
    if not isinstance(document, dict):
        raise BundleError(f"{path} holds a {type(document).__name__}", expected="a JSON object")
    return document


def _check_files(directory: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        path = directory / name
        if not _stays_inside(name) or not path.is_file():
            raise BundleError(f"{directory}: file {name!r} is missing", expected="every file that judge.json lists")
        if storage.sha256(path) != expected:
            raise BundleError(f"{path} was altered: its sha256 is not the one in {MANIFEST}", expected=expected)


def _stays_inside(name: str) -> bool:
    """Whether the name of a file is a plain path below the bundle: no way up, no drive, one spelling alone."""
    path = PurePosixPath(name)
    return str(path) == name and not path.is_absolute() and not {"..", "."} & {*path.parts} and "\\" not in name
