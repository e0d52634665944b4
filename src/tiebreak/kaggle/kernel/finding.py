"""Find the inputs.

Kaggle mounts what a notebook was given under `/kaggle/input`, at paths that depend on what it is and that have changed
before. So no path is relied on: wheels and judge are known by their sha256, a base model by the digest of its weights,
the test file by its name below the folder of its competition.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.content import by_sha256, by_weights, unflattened
from tiebreak.kaggle.kernel.reporting import NotebookError, Report


@dataclass(frozen=True)
class Found:
    """Where the inputs lie: the folder of wheels, of the judge and of its base (None: none is needed), test, sample."""

    wheels: Path
    judge: Path | None
    base: Path | None
    test: Path
    sample: Path | None


def input_root() -> Path:
    """The folder under which Kaggle mounts inputs."""
    return Path(os.environ.get("TIEBREAK_KAGGLE_INPUT", "/kaggle/input"))


def find_inputs(settings: dict[str, Any], root: Path, scratch: Path) -> Found:
    """Find all that the settings speak of; `scratch` is for trees rebuilt of flat folders."""
    files = survey(root)
    wheels = by_sha256(files, root, "wheelhouse.json", settings["wheelhouse"], "dataset_sources")
    judge = base = None
    if settings["judge"]:
        judge = by_sha256(files, root, "judge.json", settings["judge"], "model_sources")
        judge = unflattened(judge, scratch / "judge")
    for digest in settings["bases"]:
        base = by_weights(files, root, digest, scratch)
    test = competition_file(files, root, settings["competition"], settings["test"])
    if test is None:
        raise NotebookError(
            f"{settings['test']} of {settings['competition']} is nowhere among the {len(files):,} files under {root}",
            expected=f"one file of that name below a folder {settings['competition']}",
            mend=f"Add Input: the competition {settings['competition']} (join it first, and accept its rules)",
        )
    sample = competition_file(files, root, settings["competition"], settings["sample"])
    return Found(wheels, judge, base, test, sample)


def tell_python(wheels: Path, report: Report) -> None:
    """Say it first of all if the wheels are for another Python than this one."""
    wanted = json.loads((wheels / "wheelhouse.json").read_text(encoding="utf-8"))["python"]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted != here:
        report.warn(
            f"the wheels are for Python {wanted}, and this is Python {here}: what fits is installed, the rest is left "
            f"to the image; tiebreak kaggle pack --python {here} gives wheels that all fit"
        )


def survey(root: Path, depth: int = 10) -> list[Path]:
    """Every file below a folder, in order. Links are followed, but no folder is entered twice."""
    found, seen = [], set()
    for folder, folders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen or len(Path(folder).relative_to(root).parts) >= depth:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        found += [Path(folder, name) for name in names]
    return sorted(found)


def competition_file(files: list[Path], root: Path, competition: str, name: str) -> Path | None:
    """The file below the folder of the competition, the one nearest to it; else the only one of that name anywhere."""
    named = [path for path in files if path.name == name]
    inside = [path for path in named if competition in path.relative_to(root).parts[:-1]]
    if inside:
        return min(inside, key=lambda path: len(path.parts))
    return named[0] if len(named) == 1 else None
