"""The machine that a wheelhouse is for: an interpreter and the oldest libc that it may meet."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from tiebreak.errors import UsageError

KAGGLE: Final = "manylinux_2_28_x86_64"
"""Of an image of Kaggle: glibc 2.35, which takes whatever was built for 2.28."""

NEWEST: Final = "manylinux_2_35_x86_64"
"""The newest that it takes; not every machine that a pack is checked on does."""

KAGGLE_PYTHON: Final = "3.12"
"""Of an image of Kaggle, since "Python 3.12 bump", github.com/Kaggle/docker-python/pull/1496."""

PYTHON: Final = r"3\.\d+"
PLATFORM: Final = r"manylinux_2_\d+_[a-z0-9_]+"

_OLDEST: Final = 5
"""glibc 2.5 is that of manylinux1; there is nothing older."""
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_LAST_MICRO: Final = 99


def _running() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Target:
    """CPython of one minor version on Linux.

    Attributes:
        python: Its minor version, "3.12"; by default that of the running interpreter.
        platform: The newest manylinux tag that it takes; older ones are taken too.

    Raises:
        UsageError: Either is not of this form.
    """

    python: str = field(default_factory=_running)
    platform: str = KAGGLE

    def __post_init__(self) -> None:
        if not re.fullmatch(PYTHON, self.python):
            raise UsageError(f"Python {self.python!r}", expected="a minor version such as 3.12")
        if not re.fullmatch(PLATFORM, self.platform):
            raise UsageError(f"platform {self.platform!r}", expected=f"manylinux_2_MINOR_MACHINE, for example {KAGGLE}")

    @property
    def _glibc(self) -> tuple[int, str]:
        minor, machine = self.platform.removeprefix("manylinux_2_").split("_", 1)
        return int(minor), machine

    @property
    def platforms(self) -> list[str]:
        """Every tag of a platform that it takes, best first. pip is told all of them: it does not add older ones."""
        newest, machine = self._glibc
        found = []
        for minor in range(newest, _OLDEST - 1, -1):
            found.append(f"manylinux_2_{minor}_{machine}")
            if minor in _LEGACY:
                found.append(f"{_LEGACY[minor]}_{machine}")
        return found

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """Every tag of a wheel that it takes."""
        version = tuple(int(part) for part in self.python.split("."))
        own = "cp" + self.python.replace(".", "")
        return frozenset(self._tags(version, own))

    def takes(self, file: str) -> bool:
        """Whether a wheel of this name can be installed there."""
        return not self.tags.isdisjoint(parse_wheel_filename(file)[3])

    def _tags(self, version: tuple[int, ...], own: str) -> Iterator[Tag]:
        yield from cpython_tags(version, [own], self.platforms)
        yield from compatible_tags(version, own, self.platforms)

    @property
    def environments(self) -> list[dict[str, str]]:
        """What the markers of a requirement see there: once with the first patch of its Python, once with the last.

        Which patch Kaggle has is not known, so that what either of them asks for is needed.
        """
        return [
            {
                "implementation_name": "cpython",
                "implementation_version": full,
                "os_name": "posix",
                "platform_machine": self._glibc[1],
                "platform_python_implementation": "CPython",
                "platform_release": "",
                "platform_system": "Linux",
                "platform_version": "",
                "python_full_version": full,
                "python_version": self.python,
                "sys_platform": "linux",
                "extra": "",
            }
            for full in (f"{self.python}.0", f"{self.python}.{_LAST_MICRO}")
        ]

    @property
    def options(self) -> list[str]:
        """What pip is told, so that it looks for this machine and not for the one it runs on."""
        platforms = [part for name in self.platforms for part in ("--platform", name)]
        return ["--only-binary=:all:", "--implementation", "cp", "--python-version", self.python, *platforms]

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform}"
