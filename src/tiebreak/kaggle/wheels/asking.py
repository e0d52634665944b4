"""pip as a child process, with whatever configuration the user has for it. Nothing of that is read or written here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from tiebreak.errors import ResourceError, UsageError

_ALWAYS: Final = ("--disable-pip-version-check", "--no-input", "--no-color")
_UNREACHABLE: Final = re.compile(
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|MaxRetryError|ProxyError|"
    r"connection (was )?broken|Failed to establish"
)
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")
_LINES: Final = 6


class PipError(ResourceError):
    """pip could not do what it was asked.

    Attributes:
        unreachable: Whether that was for want of a network, so that asking again is of no use.
    """

    def __init__(self, what: str, said: str) -> None:
        self.unreachable = _UNREACHABLE.search(said) is not None
        errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
        lines = [*dict.fromkeys(errors or said.strip().splitlines())][-_LINES:]
        told = "".join(f"\n  pip: {_CREDENTIALS.sub('', line)}" for line in lines)
        where = "the package index cannot be reached" if self.unreachable else "pip refused"
        super().__init__(
            f"{what}: {where}{told}\n",
            expected="a package index, as pip is configured, that has wheels of each package for this platform",
            mend="pip config list shows what pip asks; --with NAME==VERSION takes another version",
        )


def pip(arguments: Sequence[str], what: str) -> None:
    """Run pip.

    Args:
        arguments: Its command and options.
        what: What fails if it does, for the message.

    Raises:
        PipError: It failed; its own words are in the message, without credentials of an index.
        UsageError: There is no pip beside this Python.
    """
    if importlib.util.find_spec("pip") is None:
        raise UsageError(
            f"{sys.executable} has no pip", expected="pip, which fetches the wheels",
            mend=f"{sys.executable} -m ensurepip --upgrade",
        )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pip", *_ALWAYS, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PipError(what, f"{done.stdout}\n{done.stderr}")
