"""The environment of llm-compressor: its own, since it needs another transformers than judges run on.

Made on first use, in the cache, under a lock; a marker written last says that it is whole, so that one whose making was
cut off is made anew.
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

from tiebreak.compress.listening import SILENT, Listener
from tiebreak.errors import ResourceError, UsageError
from tiebreak.judges.base.converted import CACHE, cache_folder
from tiebreak.predict import lock

PYTHON: Final = "TIEBREAK_QUANTIZE_PYTHON"
"""Environment variable that names the Python of an environment with llm-compressor."""

LLMCOMPRESSOR: Final = "0.14.0.1"
SIZE: Final = "1.5 GB"
MINUTES: Final = "two to four minutes"

MARKER: Final = "tiebreak.json"
_REPORT: Final = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({n: m.version(n) for n in ('llmcompressor', 'torch', 'transformers', 'compressed-tensors')}))"
)


@dataclass(frozen=True)
class Environment:
    """Where llm-compressor is.

    Attributes:
        python: The interpreter.
        versions: Of llmcompressor, torch, transformers and compressed-tensors.
    """

    python: Path
    versions: dict[str, str]


def find(given: Path | None = None, listener: Listener = SILENT) -> Environment:
    """The environment: the one that is named, else the one in the cache, which is made if it is not there.

    Args:
        given: The Python of an environment; None takes `TIEBREAK_QUANTIZE_PYTHON`, else the cache.
        listener: Told what is being made.

    Raises:
        UsageError: What is named is no Python with llm-compressor.
        ResourceError: The environment cannot be made: no network, no room.
    """
    if (named := given or os.environ.get(PYTHON)) is not None:
        return _inspect(Path(named))
    folder = place()
    made = folder / MARKER
    if not made.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f"{folder.name}.lock"), listener):
            if not made.is_file():
                _make(folder, listener)
    return Environment(_interpreter(folder), json.loads(made.read_text(encoding="utf-8")))


def place() -> Path:
    """Where the environment is or will be: a folder named by what is in it."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return cache_folder() / "environments" / f"llmcompressor-{LLMCOMPRESSOR}-torch-{_torch()}-{python}"


def is_there(given: Path | None = None) -> bool:
    """Whether nothing would have to be made."""
    return given is not None or PYTHON in os.environ or (place() / MARKER).is_file()


def _torch() -> str:
    """The version of torch that judges run on, without its build (+cpu, +cu128)."""
    try:
        return re.sub(r"\+.*", "", version("torch"))
    except PackageNotFoundError:
        return "2.13.0"


def _make(folder: Path, listener: Listener) -> None:
    listener.say(
        f"making an environment for llm-compressor {LLMCOMPRESSOR}, once: {SIZE} in {folder}, {MINUTES} "
        f"({CACHE} names another cache, --python an environment that is there)"
    )
    shutil.rmtree(folder, ignore_errors=True)
    python = _interpreter(folder)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps: list[Sequence[str]] = [
        [sys.executable, "-m", "venv", str(folder)],
        # By itself and first: what else names torch may bring gigabytes of CUDA to a machine without a GPU.
        [*pip, f"torch=={_torch()}"],
        [*pip, f"torch=={_torch()}", f"llmcompressor=={LLMCOMPRESSOR}"],
    ]
    with listener.progress("environment", len(steps), "steps") as advance:
        for step in steps:
            _call(step, f"the environment of llm-compressor cannot be made in {folder}")
            advance(1)
    found = _inspect(python)
    aside = folder / f"{MARKER}.partial"
    aside.write_text(json.dumps(found.versions), encoding="utf-8")
    aside.replace(folder / MARKER)


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _inspect(python: Path) -> Environment:
    try:
        said = subprocess.run([str(python), "-I", "-c", _REPORT], capture_output=True, text=True, check=True).stdout
        return Environment(python, json.loads(said))
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise UsageError(
            f"{python}: no Python with llm-compressor",
            expected="the interpreter of an environment in which llmcompressor is installed",
            mend=f"{python} -m pip install llmcompressor=={LLMCOMPRESSOR}, or leave out --python and {PYTHON}",
        ) from error


def _call(command: Sequence[str], failed: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ResourceError(f"{failed}: {error.strerror or error}") from error
    if done.returncode:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        raise ResourceError(
            f"{failed}: {lines[-1] if lines else f'exit code {done.returncode}'}",
            expected=f"{SIZE} of room and a package index that can be reached",
            mend=f"--python PYTHON of an environment with llmcompressor=={LLMCOMPRESSOR}",
        )


@contextmanager
def _alone(path: Path, listener: Listener, pause: Callable[[], None] = lambda: time.sleep(1)) -> Iterator[None]:
    """Wait for whoever makes the same environment just now."""
    told = False
    while (held := lock.hold(path)) is None:
        if not told:
            listener.say("another process is making the environment of llm-compressor; waiting for it")
            told = True
        pause()
    with held:
        yield
