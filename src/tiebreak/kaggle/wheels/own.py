"""The wheel of tiebreak itself, made from the package that is running: no build tool, no source tree.

It asks for what its judge needs and not for what training needs, so that `pip check` is content in an environment that
holds no more than that. The same package gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import tiebreak

_PACKAGE: Final = Path(tiebreak.__file__).parent
PYTHON: Final = "3.11"
"""The oldest Python that tiebreak runs on."""

_LEFT_OUT: Final = {"__pycache__"}
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_COMMAND: Final = "[console_scripts]\ntiebreak = tiebreak.cli:main\n"


def build(directory: Path, requirements: Sequence[str]) -> Path:
    """Write the wheel.

    Args:
        directory: An existing folder.
        requirements: What it says that it needs.

    Returns:
        The file.
    """
    path = directory / f"tiebreak-{tiebreak.__version__}-py3-none-any.whl"
    info = f"tiebreak-{tiebreak.__version__}.dist-info"
    content = dict(_package()) | {f"{info}/{name}": text for name, text in _information(requirements).items()}
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return path


def _package() -> Iterator[tuple[str, bytes]]:
    for path in sorted(_PACKAGE.rglob("*")):
        inside = path.relative_to(_PACKAGE.parent)
        if path.is_file() and not _LEFT_OUT & {*inside.parts} and not path.name.startswith("."):
            yield inside.as_posix(), path.read_bytes()


def _information(requirements: Sequence[str]) -> dict[str, bytes]:
    """The files of its dist-info, without RECORD."""
    installed = _installed()
    licence = installed.read_text("licenses/LICENSE") if installed else None
    metadata = [
        "Metadata-Version: 2.4",
        "Name: tiebreak",
        f"Version: {tiebreak.__version__}",
        "Summary: Which of two LLM answers would a person prefer?",
        "License-Expression: Apache-2.0",
        *(["License-File: LICENSE"] if licence else []),
        f"Requires-Python: >={PYTHON}",
        *(f"Requires-Dist: {requirement}" for requirement in sorted(requirements)),
    ]
    texts = {
        "METADATA": "\n".join(metadata) + "\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tiebreak\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": (installed.read_text("entry_points.txt") if installed else None) or _COMMAND,
        **({"licenses/LICENSE": licence} if licence else {}),
    }
    return {name: text.encode() for name, text in texts.items()}


def _installed() -> Distribution | None:
    try:
        return distribution("tiebreak")
    except PackageNotFoundError:
        return None


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
