"""Environments of their own for programs that need other versions than judges run on: llm-compressor, vLLM.

Made on first use, in the cache, under a lock; a marker written last says that one is whole, so that one whose making
was cut off is made anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from tiebreak import locking
from tiebreak.errors import ResourceError, UsageError
from tiebreak.listening import SILENT, Listener
from tiebreak.storage import CACHE, cache_folder

MARKER: Final = "tiebreak.json"
_REPORT: Final = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1].split(","):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
sys.exit("none of " + sys.argv[2]) if not set(sys.argv[2].split(",")) & found.keys() else print(json.dumps(found))
"""


@dataclass(frozen=True)
class Recipe:
    """What such an environment holds and how it is made.

    Attributes:
        program: What people call it.
        variable: Environment variable that names the Python of one that is there already.
        option: What else names it, for messages; empty: nothing does.
        main: Packages of which one must be installed.
        beside: Further packages whose versions are told.
        requirement: What pip installs, with its version.
        torch: Version of torch that it is installed with; empty: the one it asks for.
        without: Packages that are removed again, since they break it.
        size: On the disk.
        minutes: That the making takes.
    """

    program: str
    variable: str
    option: str
    main: tuple[str, ...]
    beside: tuple[str, ...]
    requirement: str
    torch: str
    without: tuple[str, ...] = ()
    size: str = "1.5 GB"
    minutes: str = "two to four minutes"

    @property
    def folder(self) -> Path:
        """Where it is or will be in the cache: a folder named by what is in it."""
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        parts = [self.requirement.replace("==", "-"), *([f"torch-{self.torch}"] if self.torch else []), python]
        return cache_folder() / "environments" / "-".join(parts)

    def steps(self, folder: Path) -> list[Sequence[str]]:
        """Commands that make it."""
        pip = [str(interpreter(folder)), "-m", "pip"]
        install = [*pip, "install", "--quiet", "--disable-pip-version-check"]
        torch = [f"torch=={self.torch}"] if self.torch else []
        made: list[Sequence[str]] = [[sys.executable, "-m", "venv", str(folder)]]
        if torch:  # by itself and first: what else names it may bring gigabytes of CUDA to a machine without a GPU
            made.append([*install, *torch])
        made.append([*install, *torch, self.requirement])
        if self.without:
            made.append([*pip, "uninstall", "--quiet", "--yes", *self.without])
        return made


@dataclass(frozen=True)
class Environment:
    """Where a program is.

    Attributes:
        python: The interpreter.
        versions: Of the packages that the recipe names, those that are installed.
    """

    python: Path
    versions: dict[str, str]


def find(recipe: Recipe, given: Path | None = None, listener: Listener = SILENT) -> Environment:
    """The environment: the one that is named, else the one in the cache, which is made if it is not there.

    Args:
        recipe: What it holds.
        given: The Python of an environment; None takes what the recipe's variable names, else the cache.
        listener: Told what is being made.

    Raises:
        UsageError: What is named is no Python with this program.
        ResourceError: The environment cannot be made: no network, no room.
    """
    if (named := given or os.environ.get(recipe.variable)) is not None:
        return inspect(recipe, Path(named))
    folder = recipe.folder
    made = folder / MARKER
    if not made.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(recipe, folder.with_name(f"{folder.name}.lock"), listener):
            if not made.is_file():
                _make(recipe, folder, listener)
    return Environment(interpreter(folder), json.loads(made.read_text(encoding="utf-8")))


def is_there(recipe: Recipe, given: Path | None = None) -> bool:
    """Whether nothing would have to be made."""
    return given is not None or recipe.variable in os.environ or (recipe.folder / MARKER).is_file()


def own_torch(otherwise: str) -> str:
    """The version of torch that judges run on, without its build (+cpu, +cu128)."""
    try:
        return re.sub(r"\+.*", "", version("torch"))
    except PackageNotFoundError:
        return otherwise


def interpreter(folder: Path) -> Path:
    """The Python of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def inspect(recipe: Recipe, python: Path) -> Environment:
    """Look into an environment.

    Raises:
        UsageError: It does not hold the program.
    """
    names = ",".join((*recipe.main, *recipe.beside))
    try:
        said = subprocess.run(
            [str(python), "-I", "-c", _REPORT, names, ",".join(recipe.main)], capture_output=True, text=True, check=True
        ).stdout
        return Environment(python, json.loads(said))
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        others = " and ".join(part for part in (recipe.option, recipe.variable) if part)
        raise UsageError(
            f"{python}: no Python with {recipe.program}",
            expected=f"the interpreter of an environment in which {recipe.main[0]} is installed",
            mend=f"{python} -m pip install {recipe.requirement}, or leave out {others}",
        ) from error


def _make(recipe: Recipe, folder: Path, listener: Listener) -> None:
    named = " or ".join(part for part in (recipe.option, recipe.variable) if part)
    listener.say(
        f"making an environment for {recipe.requirement.replace('==', ' ')}, once: {recipe.size} in {folder}, "
        f"{recipe.minutes} ({CACHE} names another cache, {named} an environment that is there)"
    )
    shutil.rmtree(folder, ignore_errors=True)
    steps = recipe.steps(folder)
    with listener.progress("environment", len(steps), "steps") as advance:
        for step in steps:
            _call(recipe, step, f"the environment of {recipe.program} cannot be made in {folder}")
            advance(1)
    found = inspect(recipe, interpreter(folder))
    aside = folder / f"{MARKER}.partial"
    aside.write_text(json.dumps(found.versions), encoding="utf-8")
    aside.replace(folder / MARKER)


def _call(recipe: Recipe, command: Sequence[str], failed: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ResourceError(f"{failed}: {error.strerror or error}") from error
    if done.returncode:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        named = f"{recipe.option} PYTHON" if recipe.option else f"{recipe.variable}=PYTHON"
        raise ResourceError(
            f"{failed}: {lines[-1] if lines else f'exit code {done.returncode}'}",
            expected=f"{recipe.size} of room and a package index that can be reached",
            mend=f"{named} of an environment with {recipe.requirement}",
        )


@contextmanager
def _alone(
    recipe: Recipe, path: Path, listener: Listener, pause: Callable[[], None] = lambda: time.sleep(1)
) -> Iterator[None]:
    """Wait for whoever makes the same environment just now."""
    told = False
    while (held := locking.hold(path)) is None:
        if not told:
            listener.say(f"another process is making the environment of {recipe.program}; waiting for it")
            told = True
        pause()
    with held:
        yield
