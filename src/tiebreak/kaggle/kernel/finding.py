"""Find the inputs.

Kaggle mounts what a notebook was given under `/kaggle/input`, at paths that depend on what it is and that have changed
before. So no path is relied on: wheels and judge are known by their sha256, a base model by the digest of its weights,
the test file by its name below the folder of its competition.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.content import sha256_of, unflattened, weights_digest
from tiebreak.kaggle.kernel.reporting import NotebookError


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


def working_root() -> Path:
    """The folder whose files Kaggle keeps."""
    return Path(os.environ.get("TIEBREAK_KAGGLE_WORKING", "/kaggle/working"))


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


def by_sha256(files: list[Path], root: Path, name: str, sha256: str, source: str) -> Path:
    """The folder with the file of this name and content."""
    named = [path for path in files if path.name == name]
    for path in named:
        if sha256_of(path) == sha256:
            return path.parent
    others = "; ".join(f"{path} is another one ({sha256_of(path)[:16]})" for path in named[:3])
    raise NotebookError(
        f"{name} with sha256 {sha256[:16]}... is nowhere among the {len(files):,} files under {root}"
        + (f"; {others}" if others else ""),
        expected="the very version that this notebook was packed with",
        mend=f"Add Input: what kernel-metadata.json names under {source}, or tiebreak kaggle push once more",
    )


def by_weights(files: list[Path], root: Path, digest: str, scratch: Path) -> Path:
    """The folder of the base model (or its GGUF file) whose weights have this digest."""
    tried = []
    for number, folder in enumerate(sorted({path.parent for path in files if path.name == "config.json"})):
        tree = unflattened(folder, scratch / f"base-{number}")
        whole = tree / "model.safetensors"
        weights = [whole] if whole.is_file() else sorted(tree.glob("model-*-of-*.safetensors"))
        tried += weights[:1]
        if weights and weights_digest(weights) == digest:
            return tree
    for path in files:
        if path.suffix == ".gguf":
            tried.append(path)
            if weights_digest([path]) == digest:
                return path
    raise NotebookError(
        f"the base model with digest {digest[:16]}... is nowhere under {root}; weights of other models: "
        + (", ".join(map(str, tried[:3])) or "none"),
        expected="the very weights that the judge was trained on",
        mend="Add Input: the model that kernel-metadata.json names under model_sources",
    )


def competition_file(files: list[Path], root: Path, competition: str, name: str) -> Path | None:
    """The file below the folder of the competition, the one nearest to it; else the only one of that name anywhere."""
    named = [path for path in files if path.name == name]
    inside = [path for path in named if competition in path.relative_to(root).parts[:-1]]
    if inside:
        return min(inside, key=lambda path: len(path.parts))
    return named[0] if len(named) == 1 else None
