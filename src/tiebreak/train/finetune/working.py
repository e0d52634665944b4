"""The working folder of a run: whose it is, and where each of its trainings has its things."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiebreak import bundle, comparisons, storage
from tiebreak.errors import BundleError, UsageError
from tiebreak.train.finetune.folding import Part
from tiebreak.train.finetune.recipe import Recipe

RUN: Final = "run.json"
DONE: Final = "done.json"
PREDICTIONS: Final = "validation.parquet"


@dataclass(frozen=True)
class Place:
    """One training and where it happens.

    Attributes:
        part: Its rows.
        target: Where its bundle will be.
        folder: Where it works: checkpoints, history, predictions of the held-out rows.
        alone: Whether the run has no other training: then the target is the output itself.
    """

    part: Part
    target: Path
    folder: Path
    alone: bool

    @property
    def finished(self) -> bool:
        """Whether its bundle and its figures are there, whole."""
        try:
            bundle.read(self.target)
        except BundleError:
            return False
        return (self.folder / DONE).is_file()


def folder(output: Path) -> Path:
    """The working folder of the run that writes to `output`."""
    return output.with_name(output.name + ".run")


def places(todo: Sequence[Part], output: Path, *, alone: bool) -> list[Place]:
    """Where each training has its things."""
    work = folder(output)
    if alone:
        return [Place(part, output, work, alone=True) for part in todo]
    return [Place(part, output / f"fold-{part.fold}", work / f"fold-{part.fold}", alone=False) for part in todo]


def identity(recipe: Recipe, todo: Sequence[Part]) -> dict[str, str]:
    """Fingerprints of the recipe, and of all that the votes bring into the training."""
    digest = hashlib.sha256()
    for part in todo:
        for table in (part.train, part.validation):
            if table is not None:
                digest.update(comparisons.fingerprint(table).encode())
                digest.update(table.select(*comparisons.SOFT, "weight").write_ndjson().encode())
    return {"data": digest.hexdigest(), "recipe": hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()}


def begin(output: Path, identity: dict[str, str], recipe: Recipe, *, resume: bool) -> None:
    """Make the working folder, or go on with the one that is there.

    Raises:
        UsageError: It is of another run, or something that is no bundle stands where the output will be.
    """
    work = folder(output)
    if _foreign(output):
        raise UsageError(f"{output} exists and is no judge bundle", expected="a new place, or an empty folder")
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    path = work / RUN
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name in {**identity, **found} if found.get(name) != identity.get(name)]:
            raise UsageError(
                f"{work} belongs to a run with other {' and other '.join(changed)}",
                expected="the same votes and the same recipe as before, to go on with it",
                mend="the same command with --anew begins again, or another -o",
            )
        return
    storage.make_directory(work)
    storage.write_text(work / "recipe.json", recipe.model_dump_json(indent=1) + "\n")
    storage.write_text(path, json.dumps(identity) + "\n")


def _foreign(output: Path) -> bool:
    """Whether something stands there that this run did not write and must not replace."""
    if not output.is_dir():
        return output.exists()
    ours = (output / bundle.MANIFEST).is_file() or list(output.glob("fold-*"))
    return not ours and any(output.iterdir())
