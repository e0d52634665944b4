"""See what there is.

The packages that the image has, and what a wheel says that it needs.
"""

from __future__ import annotations

import importlib.metadata
import re
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any


def accepts(need: Any, version: str) -> bool:
    """Whether a requirement is met by a version."""
    return bool(need.specifier.contains(version, prereleases=True))


def metadata_of(wheel: Path) -> Any:
    """The METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode("utf-8"))


def packages_of_image() -> dict[str, Any]:
    """All packages that this Python has, by name; of two the one that it would import."""
    found: dict[str, Any] = {}
    for package in importlib.metadata.distributions():
        if name := package.metadata["Name"]:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), package)
    return found
