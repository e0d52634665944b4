"""pip as a child process, with whatever configuration the user has for it. Nothing of that is read or written here.

pip evaluates the markers of requirements for the interpreter that it runs on, whatever `--python-version` and
`--platform` say, so that it would resolve for another machine than the one that was asked for. The child is therefore
told what markers mean before pip begins. That is no interface of pip: a pip in which it does nothing resolves as ever,
and `closure` walks whatever comes of it again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tiebreak.errors import ResourceError, UsageError
from tiebreak.kaggle.wheels.target import NEWEST, Target
from tiebreak.stopping import arriving

LOOKS_AT: Final = ("Collecting ", "Processing ")
"""What pip says of each package that it looks at, from afar or on this disk."""

_ALWAYS: Final = ("--disable-pip-version-check", "--no-input", "--no-color")
_UNREACHABLE: Final = re.compile(
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|MaxRetryError|ProxyError|"
    r"connection (was )?broken|Failed to establish"
)
_DENIED: Final = re.compile(r"\b[45]\d\d (Client|Server) Error\b.* for url")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")
_VERSIONS: Final = re.compile(r"\(from versions: (?:.*, )?((?:[^,()]+, ){4}[^,()]+)\)")
_LINES: Final = 8
_FOR_TARGET: Final = """
import json, runpy, sys
environment = json.loads(sys.argv.pop(1))
try:
    from pip._vendor.packaging import markers
    markers.default_environment = lambda: dict(environment)
except ImportError:
    pass
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def _unheard(line: str) -> None:
    """No one listens."""


class PipError(ResourceError):
    """pip could not do what it was asked.

    Attributes:
        unreachable: Whether that was for want of a network, so that asking again is of no use.
        denied: Whether the index answered, and refused: it may not know of HEAD, or of parts of a file.
    """

    def __init__(self, what: str, said: str) -> None:
        self.unreachable = _UNREACHABLE.search(said) is not None
        self.denied = _DENIED.search(said) is not None
        told = "".join(f"\n  pip: {_readable(line)}" for line in self._lines(said))
        if self.unreachable:
            super().__init__(
                f"{what}: the package index cannot be reached{told}\n", expected="a network, or wheels in the cache",
                mend="pip config list shows what pip asks; the same pack made once with a network needs none again",
            )  # fmt: skip
        else:
            super().__init__(
                f"{what}{told}\n", expected="wheels of each package for this platform, on the index that pip is set to",
                mend=f"--with NAME==VERSION takes another version of a package, --platform {NEWEST} newer wheels, as "
                "Kaggle's image does",
            )  # fmt: skip

    def _lines(self, said: str) -> list[str]:
        """The lines that tell why."""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if self.unreachable:
            return [next(line for line in lines if _UNREACHABLE.search(line))]
        start = next((i for i, line in enumerate(lines) if line.startswith("ERROR: ")), -_LINES)
        return [*dict.fromkeys(line.removeprefix("ERROR: ") for line in lines[start:])][:_LINES]


def _readable(line: str) -> str:
    """Without what logs in, and without all but the last of the versions that there are."""
    return _VERSIONS.sub(r"(from versions: ..., \1)", _CREDENTIALS.sub("", line))


def pip(
    arguments: Sequence[str],
    what: str,
    room: Path,
    *,
    target: Target | None = None,
    heard: Callable[[str], None] = _unheard,
) -> None:
    """Run pip.

    Args:
        arguments: Its command and options.
        what: What fails if it does, for the message.
        room: The folder of its temporary files.
        target: The machine that markers are evaluated for; None: this one.
        heard: Called with each line of what it says, as it says it.

    Raises:
        PipError: It failed; its own words are in the message, without credentials of an index.
        UsageError: There is no pip beside this Python.
    """
    if importlib.util.find_spec("pip") is None:
        raise UsageError(
            f"{sys.executable} has no pip", expected="pip, which fetches the wheels",
            mend=f"{sys.executable} -m ensurepip --upgrade",
        )  # fmt: skip
    said: list[str] = []
    how = ["-m", "pip"] if target is None else ["-c", _FOR_TARGET, json.dumps(target.environments[-1])]
    command = [sys.executable, "-P", *how, *_ALWAYS, *arguments]
    variables = {**os.environ, "TMPDIR": str(room)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
    ) as running:
        assert running.stdout is not None  # noqa: S101 - it is a pipe
        try:
            for line in arriving(running.stdout):
                said.append(line)
                heard(line)
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        raise PipError(what, "".join(said))
