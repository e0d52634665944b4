"""`pack.json`: what was packed, from what, for what. Closed; no path of this machine and no credentials in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

import tiebreak
from tiebreak import storage
from tiebreak.errors import DataError
from tiebreak.kaggle.layout import KERNEL_METADATA, Layout
from tiebreak.kaggle.settings import KernelSettings
from tiebreak.listening import SILENT, Listener

FORMAT: Final = 1
PARTS: Final = ("kernel", "wheels", "model", "model/judge", "model/base")

_NOT_COUNTED: Final = {"kernel": {KERNEL_METADATA}}
"""Push writes the versions of the model into it; `metadata.check` holds it against its rules."""


class Part(BaseModel):
    """A folder of the pack.

    Attributes:
        files: sha256 of each file, without those that push writes to.
        bytes: Of these files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, str]
    bytes: int

    @property
    def digest(self) -> str:
        """Of names and contents together."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()


class JudgeRecord(BaseModel):
    """The judge in a pack.

    Attributes:
        name: Of the judge.
        kind: Of judge.
        sha256: Of its `judge.json`; None is the judge inside the package.
        parameters: Of its networks; 0 where it has none, None where its base is not known here.
        base: Name of the base beside it; None: all weights are in the bundle.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: str
    sha256: str | None
    parameters: int | None
    base: str | None = None


class Record(BaseModel):
    """What `pack.json` says.

    Attributes:
        format: Of this file.
        tiebreak: Version that packed.
        user: Who owns what is pushed.
        kernel: `owner/slug` of the notebook.
        dataset: `owner/slug` of the wheels.
        model: `owner/slug` of the model; None for the embedded judge.
        instances: `owner/model/framework/variation` of each folder of the model.
        base_model: The base that Kaggle has already, with its version.
        judge: The judge.
        python: Minor version of Python that the wheels are for.
        platform: That they are for.
        requirements: That they were made from.
        settings: What the notebook is told.
        notes: What is said of this version.
        parts: What lies in each folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    tiebreak: str = tiebreak.__version__
    user: str
    kernel: str
    dataset: str
    model: str | None = None
    instances: dict[str, str] = {}
    base_model: str | None = None
    judge: JudgeRecord
    python: str
    platform: str
    requirements: tuple[str, ...]
    settings: KernelSettings
    notes: str = ""
    parts: dict[str, Part]

    def write(self, pack: Layout) -> None:
        """Write it into a pack."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        storage.write_text(pack.record, f"{text}\n")


def read(pack: Layout) -> Record:
    """What a pack says of itself.

    Raises:
        DataError: The folder is no pack, or its record is damaged or too new.
    """
    if not pack.record.is_file():
        raise DataError(
            f"{pack.root} is not a pack: no {pack.record.name} in it",
            expected="a folder that tiebreak kaggle pack wrote",
            mend=f"tiebreak kaggle pack --competition SLUG --user NAME -o {pack.root}",
        )
    try:
        document = json.loads(pack.record.read_text(encoding="utf-8"))
        if isinstance(document, dict) and isinstance(document.get("format"), int) and document["format"] > FORMAT:
            raise DataError(f"{pack.record}: format {document['format']} is newer than this tiebreak reads",
                            expected=f"format {FORMAT}", mend="pip install --upgrade tiebreak")  # fmt: skip
        return Record.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{pack.record}: {place}: {first['msg']}", expected="a record that tiebreak wrote") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{pack.record} cannot be read: {error}", expected="a record that tiebreak wrote") from error


def parts(pack: Layout, listener: Listener = SILENT) -> dict[str, Part]:
    """What lies in each folder of a pack, by `PARTS`."""
    found = {name: sorted(_files(pack, name)) for name in PARTS if (pack.root / name).is_dir()}
    total = sum(path.stat().st_size for paths in found.values() for path in paths) >> 20
    made = {}
    with listener.progress("digests", total, "MiB") as advance:
        for name, paths in found.items():
            sums, size, told = {}, 0, 0
            for path in paths:
                sums[path.name] = storage.sha256(path)
                size += path.stat().st_size
                advance((size >> 20) - told)
                told = size >> 20
            made[name] = Part(files=sums, bytes=size)
    return made


def check(pack: Layout, listener: Listener = SILENT) -> Record:
    """Hold every file of a pack against its record.

    Raises:
        DataError: Files are missing, altered or surplus; all are named.
    """
    found = read(pack)
    if wrong := list(_differences(found.parts, parts(pack, listener))):
        listing = "\n".join(f"  {line}" for line in wrong)
        raise DataError(
            f"{pack.root}: {len(wrong)} file{'s are' if len(wrong) > 1 else ' is'} not as packed:\n{listing}\n",
            mend="tiebreak kaggle pack with the same options",
        )
    return found


def _files(pack: Layout, part: str) -> Iterator[Path]:
    left = _NOT_COUNTED.get(part, set())
    return (path for path in (pack.root / part).iterdir() if path.is_file() and path.name not in left)


def _differences(then: dict[str, Part], now: dict[str, Part]) -> Iterator[str]:
    for part in sorted(then.keys() | now.keys()):
        before = then[part].files if part in then else {}
        after = now[part].files if part in now else {}
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                yield f"{part}/{name} is missing"
            elif name not in before:
                yield f"{part}/{name} was not packed"
            elif before[name] != after[name]:
                yield f"{part}/{name} was altered"
