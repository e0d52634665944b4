"""What a notebook finds under `/kaggle/input`: what its metadata name, laid out as Kaggle mounts it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle import layout
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.rehearse.sandbox import Place

Mounts = Literal["new", "old"]
"""Kaggle has moved what it mounts: `/kaggle/input/datasets/OWNER/SLUG` was `/kaggle/input/SLUG` before."""

_METADATA: Final = {
    layout.KERNEL_METADATA, layout.DATASET_METADATA, layout.MODEL_METADATA, layout.INSTANCE_METADATA,
}  # fmt: skip
_ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z")


def places(pack: Layout, competition: list[Path], base: Path | None = None, mounts: Mounts = "new") -> list[Place]:
    """Every file that the notebook is given.

    Args:
        pack: The pack.
        competition: Files of the competition.
        base: Where the base model lies here that the notebook takes from Kaggle.
        mounts: How Kaggle lays them out.

    Raises:
        DataError: The metadata name something that is neither in the pack nor given, or something of the pack would not
            come through Kaggle as it is.
        UsageError: A base was given for which there is no place.
    """
    kernel = _read(pack.kernel / layout.KERNEL_METADATA)
    if others := kernel.get("kernel_sources"):
        raise _absent("kernel", others[0], "outputs of other notebooks are no part of a pack")
    found = []
    for slug in kernel.get("competition_sources", []):
        where = PurePosixPath("competitions", slug) if mounts == "new" else PurePosixPath(slug)
        found += [Place(file, where / file.name) for file in competition]
    wheels = _read(pack.wheels / layout.DATASET_METADATA)
    for source in kernel.get("dataset_sources", []):
        if source != wheels.get("id"):
            raise _absent("dataset", source, f"the one in the pack is {wheels.get('id')}")
        where = (
            PurePosixPath("datasets", source) if mounts == "new" else PurePosixPath(source).relative_to(_owner(source))
        )
        found += _uploaded(pack.wheels, where)
    return found + _models(pack, kernel.get("model_sources", []), base, mounts)


def code_file(pack: Layout) -> str:
    """Name of the notebook.

    Raises:
        DataError: The metadata do not say it.
    """
    name = _read(pack.kernel / layout.KERNEL_METADATA).get("code_file")
    if not isinstance(name, str) or not name:
        raise DataError(f"{pack.kernel / layout.KERNEL_METADATA} names no code_file", mend="tiebreak kaggle pack")
    return name


def _models(pack: Layout, sources: list[str], base: Path | None, mounts: Mounts) -> list[Place]:
    folders = {}
    for folder in pack.instances():
        said = _read(folder / layout.INSTANCE_METADATA)
        parts = (str(said.get(key)) for key in ("ownerSlug", "modelSlug", "framework", "instanceSlug"))
        folders["/".join(parts).lower()] = folder
    found: list[Place] = []
    elsewhere: list[str] = []
    for source in sources:
        name = PurePosixPath(*(part.lower() if number == 2 else part for number, part in enumerate(source.split("/"))))
        where = PurePosixPath("models", name) if mounts == "new" else name.relative_to(_owner(source))
        if (held := folders.get(str(name.parent).lower())) is not None:
            found += _uploaded(held, where)
        elif base is not None and not elsewhere:
            elsewhere.append(source)
            found += [Place(f, where / f.relative_to(base).as_posix()) for f in sorted(base.rglob("*")) if f.is_file()]
        else:
            raise _absent("model", source, "it is not in the pack", "--base DIR, where that model lies here")
    if base is not None and not elsewhere:
        raise UsageError(f"--base {base}: the notebook takes no model from Kaggle that is not in the pack")
    return found


def _uploaded(folder: Path, where: PurePosixPath) -> Iterator[Place]:
    """The files that Kaggle would hold: its client leaves folders out, and Kaggle unpacks archives.

    Raises:
        DataError: Something would not arrive as it is.
    """
    for file in sorted(folder.iterdir()):
        if file.is_dir():
            raise DataError(
                f"{file} is a folder, which Kaggle's client leaves out",
                expected="files alone",
                mend="tiebreak kaggle pack",
            )
        if file.suffix.lower() in _ARCHIVES:
            raise DataError(
                f"{file} is an archive, which Kaggle unpacks", expected="plain files", mend="tiebreak kaggle pack"
            )
        if file.name not in _METADATA:
            yield Place(file, where / file.name)


def _owner(source: str) -> str:
    return source.split("/", 1)[0]


def _absent(what: str, source: str, why: str, mend: str = "") -> DataError:
    return DataError(
        f"{layout.KERNEL_METADATA} asks for the {what} {source}, and {why}",
        expected=f"a {what} of the pack under {what}_sources",
        mend=mend or "tiebreak kaggle pack",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", expected="a pack", mend="tiebreak kaggle pack -o DIR"
        ) from error
    if not isinstance(said, dict):
        raise DataError(f"{path} holds no object", expected="JSON with keys and values")
    return said
