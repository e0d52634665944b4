"""All metadata of a pack together: each file by itself, and what they say of each other."""

from __future__ import annotations

from dataclasses import replace

from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.metadata.dataset import Dataset
from tiebreak.kaggle.metadata.instance import Instance
from tiebreak.kaggle.metadata.kernel import Kernel
from tiebreak.kaggle.metadata.model import Model
from tiebreak.kaggle.metadata.reading import MetadataError, Problem


def problems(pack: Layout) -> list[Problem]:
    """Every rule that a metadata file of a pack breaks, with its place from the root of the pack."""
    parts: list[tuple[type[Kernel | Dataset | Model | Instance], str]] = [(Kernel, "kernel"), (Dataset, "wheels")]
    if pack.model.is_dir():
        parts += [(Model, "model"), *((Instance, f"model/{folder.name}") for folder in pack.instances())]
    found = []
    for kind, folder in parts:
        found += [replace(p, file=f"{folder}/{p.file}") for p in kind.problems(pack.root / folder)]
    return found


def check(pack: Layout) -> None:
    """Hold a pack against every rule.

    Raises:
        MetadataError: It breaks some; all are told, one a line.
    """
    if found := problems(pack):
        raise MetadataError(found, pack.root)
