"""`pack.yaml`: the choices of a pack in a file, read with every fault at its line; the command line goes before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from tiebreak.errors import UsageError
from tiebreak.kaggle.packing.choices import Choices
from tiebreak.kaggle.settings import EMBEDDED
from tiebreak.train.finetune import document
from tiebreak.train.finetune.document import Document, Fault
from tiebreak.train.finetune.faults import schema_faults

FILE: Final = "pack.yaml"

OPTIONS: Final = {
    "judge": "BUNDLE", "columns": "--column", "test": "--test-name", "requirements": "--with", "bases": "--base",
}  # fmt: skip
"""Options of the command line that are not called as their choice is."""

_PLACES: Final = ("judge", "sample")


def read(path: Path | None, given: Mapping[str, Any]) -> Choices:
    """The choices of a file and of a command line, which goes first.

    Args:
        path: The file, or a folder with a `pack.yaml`; None: there is none. Paths in it count from where it lies.
        given: What was given on the command line, by name of the choice.

    Raises:
        UsageError: The file is not there, or something is wrong with the choices: all of it is told.
    """
    found = Document("the command line") if path is None else _file(path / FILE if path.is_dir() else path)
    for name, value in given.items():
        found.values[name] = value
        found.places = {known: place for known, place in found.places.items() if known[0:1] != (name,)}
        found.places[name,] = OPTIONS.get(name, f"--{name.replace('_', '-')}")
    judge = found.values.get("judge")
    if judge is not None and Path(str(judge)).name == EMBEDDED and not Path(str(judge)).exists():
        found.values["judge"] = None
    try:
        choices = Choices.model_validate(found.values)
    except ValidationError as error:
        faults = (_of_option(fault) for _, fault in schema_faults(error, found, Choices))
        raise _refused(found, [*found.faults, *faults]) from error
    if found.faults:
        raise _refused(found, found.faults)
    if choices.judge is None and (named := choices.of_networks()):
        fault = Fault(found.place((named[0],)), f"{', '.join(named)}: the embedded judge has no such choice")
        raise _refused(found, [fault])
    return choices


def _file(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"{path} cannot be read: {reason}", expected="a file as tiebreak kaggle init writes it",
            mend=f"tiebreak kaggle init -o {path.parent}",
        ) from error  # fmt: skip
    found = document.parse(text, str(path))
    for name in _PLACES:
        if isinstance(value := found.values.get(name), str):
            found.values[name] = str(path.parent / Path(value).expanduser())
    if isinstance(bases := found.values.get("bases"), list):
        found.values["bases"] = [_near(path.parent, base) if isinstance(base, str) else base for base in bases]
    return found


def _near(folder: Path, base: str) -> str:
    """A base that lies where the file says; a name of the hub or of a package stays what it is."""
    place = folder / Path(base).expanduser()
    return str(place) if place.exists() else base


def _of_option(fault: Fault) -> Fault:
    """What is missing can be given on the command line, too."""
    name, missing, _ = fault.wrong.partition(" is missing")
    return replace(fault, mend=f"--{name}, or {name}: in {FILE}") if missing else fault


def _refused(found: Document, faults: list[Fault]) -> UsageError:
    if len(faults) == 1:
        only = faults[0]
        return UsageError(f"{only.where}: {only.wrong}", expected=only.expected, mend=only.mend)
    return UsageError(
        f"{found.name}: {len(faults)} choices are wrong:\n" + "\n".join(f"  {fault}" for fault in faults) + "\n"
    )
