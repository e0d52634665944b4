"""A clean Python: the stand-in for Kaggle's image, with nothing in it but pip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiebreak.environments import interpreter
from tiebreak.errors import ResourceError, UsageError

_REFUSING: Final = Path(__file__).with_name("refusing.py")  # never imported here: its hook could not be taken out again
_ASK: Final = (
    "import json, sys; print(json.dumps(['%d.%d' % sys.version_info[:2], sys.base_prefix, sys.base_exec_prefix,"
    " getattr(sys, '_base_executable', '') or sys.executable]))"
)


@dataclass(frozen=True)
class Python:
    """An interpreter that environments are made with.

    Attributes:
        version: Major and minor, as in `3.11`.
        executable: The program itself, no link and no wrapper.
        prefixes: Folders that it needs.
    """

    version: str
    executable: Path
    prefixes: tuple[Path, ...]


def running() -> str:
    """Major and minor version of this very Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def find(version: str, given: Path | None = None) -> Python:
    """The interpreter of a version: the one that is named, else this very one, else `pythonX.Y` on PATH.

    Raises:
        UsageError: There is none, or what is named is of another version.
    """
    if given is None and version == running():
        return _inspect([sys.executable])
    command = str(given) if given else shutil.which(f"python{version}")
    try:
        found = _inspect([command] if command else ["false"])
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"{given}: no Python" if given else f"no Python {version} here, which the wheels of this pack are for",
            expected=f"python{version} on PATH, or --interpreter PATH",
            mend=f"install Python {version}, or pack for this one: tiebreak kaggle pack --python {running()}",
        ) from error
    if found.version != version:
        raise UsageError(
            f"{command} is Python {found.version}, and the wheels of this pack are for {version}",
            expected=f"--interpreter PATH of a Python {version}",
        )
    return found


def _inspect(command: list[str]) -> Python:
    said = subprocess.run([*command, "-I", "-c", _ASK], capture_output=True, text=True, check=True).stdout
    version, prefix, platform_prefix, executable = json.loads(said)
    prefixes = dict.fromkeys(Path(p).resolve() for p in (prefix, platform_prefix))
    return Python(version, Path(executable).resolve(), tuple(prefixes))


def make(python: Python, folder: Path) -> Path:
    """A new virtual environment; returns its interpreter.

    Raises:
        ResourceError: It cannot be made: no room, or a Python that is shipped without `venv`.
    """
    environment = {"PATH": os.defpath, "HOME": str(folder.parent), "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [str(python.executable), "-I", "-m", "venv", str(folder)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        raise ResourceError(
            f"no clean environment can be made with {python.executable}: {lines[-1] if lines else 'no word why'}",
            expected="room on the disk, and the module venv (Debian and Ubuntu: apt-get install python3-venv)",
        )
    return interpreter(folder)


def refuse_network(folder: Path) -> None:
    """Make every Python of the environment refuse connections that leave this machine."""
    packages = next(folder.glob("lib/python*/site-packages"))
    shutil.copyfile(_REFUSING, packages / "tiebreak_refusing.py")
    (packages / "tiebreak_refusing.pth").write_text("import tiebreak_refusing\n", encoding="utf-8")
