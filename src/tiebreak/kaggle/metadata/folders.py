"""What lies beside a metadata file and is uploaded with it: the client takes the plain files of the folder, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tiebreak.kaggle import layout
from tiebreak.kaggle.metadata.dataset import FORMER, Dataset
from tiebreak.kaggle.metadata.instance import Instance
from tiebreak.kaggle.metadata.problem import Found
from tiebreak.kaggle.metadata.schema import Metadata

COVERS: Final = tuple(f"dataset-cover-image{suffix}" for suffix in (".png", ".jpg", ".jpeg", ".webp"))
LEFT_OUT: Final = (
    layout.KERNEL_METADATA,
    layout.DATASET_METADATA,
    layout.MODEL_METADATA,
    layout.INSTANCE_METADATA,
    FORMER,
    *COVERS,
)
"""What the client never uploads, wherever it lies."""

ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
"""What Kaggle unpacks when it arrives."""


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name not in LEFT_OUT)


def _folder_flat(_: Metadata, folder: Path) -> Iterator[Found]:
    for path in _entries(folder):
        if path.is_dir():
            yield Found(path.name, f"has the folder {path.name} beside it", "pack again: tiebreak stores folders flat")
        elif not path.is_file():
            yield Found(path.name, f"has {path.name} beside it, which is no file", "pack again")


def _folder_archives(_: Metadata, folder: Path) -> Iterator[Found]:
    for path in _entries(folder):
        if path.is_file() and path.name.lower().endswith(ARCHIVES):
            yield Found(path.name, f"has the archive {path.name} beside it", "unpack it, or give it another suffix")


def _folder_some(_: Metadata, folder: Path) -> Iterator[Found]:
    if not any(path.is_file() for path in _entries(folder)):
        yield Found(None, "has no file beside it", "pack again")


def _folder_strays(metadata: Metadata, folder: Path) -> Iterator[Found]:
    own = metadata.file
    for name in LEFT_OUT:
        if name != own and name not in COVERS and (folder / name).is_file():
            yield Found(name, f"has {name} beside it", "take it out")


for _kind in (Dataset, Instance):
    _kind.rule(expected="files alone: the client leaves folders out", client="ignores", beside=True)(_folder_flat)
    _kind.rule(expected="no archives: Kaggle unpacks them", client="ignores", beside=True)(_folder_archives)
    _kind.rule(expected="something to upload", client="ignores", beside=True)(_folder_some)
    _kind.rule(expected="no metadata of another kind: the client leaves it out", client="ignores", beside=True)(
        _folder_strays
    )
