"""The official client, run as a program: its code, its sign-in, its uploads that go on where they ended."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Final

from tiebreak.errors import MissingExtraError, UsageError
from tiebreak.kaggle.remote import answers
from tiebreak.kaggle.remote.answers import Answer
from tiebreak.kaggle.remote.credentials import Credentials
from tiebreak.listening import SILENT, Listener
from tiebreak.stopping import arriving

OLDEST: Final = (2, 2)
"""Versions before do not tell the number of a dataset's version."""
_TALKATIVE: Final = ("VERBOSE", "VERBOSE_OUTPUT")
"""Variables that make the client print its requests, credentials and all."""


def shell(arguments: tuple[str, ...]) -> str:
    """A call as a line for a shell."""
    return shlex.join(("kaggle", *arguments))


def program() -> tuple[str, ...]:
    """How the client is started: the one of this Python, else the one on PATH.

    Raises:
        MissingExtraError: There is none.
        UsageError: It is too old.
    """
    try:
        found, _ = version("kaggle"), version("six")
    except PackageNotFoundError as error:
        elsewhere = shutil.which("kaggle")
        if elsewhere is None:
            raise MissingExtraError(str(error.name or "kaggle"), "kaggle", "what talks to Kaggle") from None
        return (elsewhere,)
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < OLDEST:
        raise UsageError(
            f"the kaggle client here is version {found}",
            expected=f"{'.'.join(map(str, OLDEST))} or newer",
            mend='pip install --upgrade "tiebreak[kaggle]"',
        )
    # Without -P a folder called kaggle in the working directory would be run in its place.
    return (sys.executable, "-P", "-m", "kaggle")


@dataclass(frozen=True)
class Client:
    """Calls the client, one call after the other.

    Attributes:
        program: How it is started.
        credentials: What must never be seen in what it says.
        listener: Who is told of its warnings.
        lock: A lock that each call inherits: it is held as long as one of them lives, though we be killed.
        told: Warnings that were told: the client repeats some at every call.
    """

    program: tuple[str, ...]
    credentials: Credentials
    listener: Listener = SILENT
    lock: IO[str] | None = field(default=None, repr=False)
    told: set[str] = field(default_factory=set, repr=False)

    def call(
        self, *arguments: str, line: Callable[[str], None] | None = None, uploads: Path | None = None
    ) -> Answer:  # fmt: skip
        """One call.

        Args:
            arguments: The call, without the program.
            line: Is given each line of its output as it comes.
            uploads: Folder in which it remembers uploads that are not finished.
        """
        environment = {key: value for key, value in os.environ.items() if key not in _TALKATIVE}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
        if uploads is not None:
            uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
            environment["TMPDIR"] = str(uploads)
        code, out, err = self.run(arguments, environment, line or (lambda text: None))
        answer = Answer(arguments, code, self.credentials.scrub(out), self.credentials.scrub(err))
        for text in answers.warnings(answer):
            if text not in self.told:
                self.told.add(text)
                self.listener.say(f"  kaggle: {text}")
        return answer

    def run(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], line: Callable[[str], None]
    ) -> tuple[int, str, str]:
        """Start it, read both its streams, and leave none behind: `(exit code, out, err)`."""
        held = () if self.lock is None or os.name == "nt" else (self.lock.fileno(),)
        out: list[str] = []
        err: list[str] = []
        with subprocess.Popen(
            [*self.program, *arguments], env=dict(environment), stdin=subprocess.DEVNULL, pass_fds=held,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="backslashreplace",
        ) as child:  # fmt: skip
            assert child.stdout is not None  # noqa: S101 - it is a pipe
            errors = threading.Thread(target=err.extend, args=(child.stderr,), daemon=True)
            errors.start()
            try:
                for text in arriving(child.stdout):
                    out.append(text)
                    line(text.rstrip("\n"))
                child.wait()
            finally:
                if child.poll() is None:
                    child.terminate()
                errors.join()
        return child.returncode, "".join(out), "".join(err)
