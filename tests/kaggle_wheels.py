"""Tiny wheels, and folders of them that pip takes for an index: what the tests of wheelhouses resolve from."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tiebreak.kaggle.wheels import resolving


def wheel(
    folder: Path, name: str, version: str = "1.0", requires: Sequence[str] = (), *, tag: str = "py3-none-any",
    python: str = "", content: str = "",
) -> Path:  # fmt: skip
    """A wheel with one empty module and what it asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    written = name.replace("-", "_")
    path = folder / f"{written}-{version}-{tag}.whl"
    info = f"{written}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Python: {python}"] * bool(python)
    metadata += [f"Requires-Dist: {one}" for one in requires]
    extras = sorted(
        {part.split("'")[1] for one in requires if "extra ==" in one for part in [one.split("extra ==")[1]]}
    )
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    files = {
        f"{written}.py": content,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{inside},,\n" for inside in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0)), text)
    return path


def source(folder: Path, name: str, version: str = "1.0") -> Path:
    """A package that comes as its source alone."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        entry = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return path


def only(folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let pip know of this folder and of nothing else. Nothing is installed here, so that pip is asked once."""
    monkeypatch.setattr(resolving, "installed", lambda asked: {})
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("TIEBREAK_CACHE", str(cache))
