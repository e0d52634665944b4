"""Where the notebook runs: behind namespaces where this machine has them, else behind what Python alone can refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from tiebreak import storage
from tiebreak.errors import ResourceError, UsageError
from tiebreak.kaggle.rehearse import image as images

Isolation = Literal["auto", "namespaces", "python"]
KINDS: Final = ("auto", "namespaces", "python")
_HERE: Final = Path(__file__).parent
_ENOUGH: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix")  # shown anyway
_LOOK: Final = """
import json, pathlib, socket, sys
def attempt(act):
    try:
        act()
    except OSError as error:
        return error.strerror or str(error)
    return ""
tried = socket.socket()
tried.settimeout(3)
said = {"interfaces": sorted(name for _, name in socket.if_nameindex())}
said["outside"] = attempt(lambda: tried.connect(("192.0.2.1", 443)))
said["input"] = attempt(lambda: pathlib.Path(sys.argv[1], ".written").touch())
print(json.dumps(said))
"""


@dataclass(frozen=True)
class Walls:
    """How the notebook was cut off, as found from within.

    Attributes:
        kind: `namespaces`: the kernel's; `python`: refusals of the Python interpreter, which C code could get round.
        interfaces: Network interfaces that it saw.
        outside: What a connection to an address outside ended with; empty: it was made.
        input: What writing into the input folder ended with; empty: it was possible.
        reason: Why not by namespaces.
    """

    kind: Literal["namespaces", "python"]
    interfaces: tuple[str, ...]
    outside: str
    input: str
    reason: str = ""

    @property
    def hold(self) -> bool:
        """Whether no connection went out."""
        return bool(self.outside) and (self.kind == "python" or self.interfaces == ("lo",))

    def __str__(self) -> str:
        if self.kind == "namespaces":
            return f"a network namespace with {', '.join(self.interfaces)} alone; a connection outside: {self.outside}"
        return f"refused by Python alone, which C code could get round ({self.reason})"


@dataclass(frozen=True)
class Place:
    """A file of this machine, and where under the input folder the notebook finds it."""

    source: Path
    target: PurePosixPath


@dataclass
class Sandbox:
    """A folder that holds what a run needs, and the way into it.

    Attributes:
        folder: Holds everything; the caller removes it by `close`.
        kind: `namespaces` or `python`.
        reason: Why not by namespaces.
    """

    folder: Path
    kind: Literal["namespaces", "python"]
    reason: str
    _places: list[Place] = field(default_factory=list)
    _python: images.Python | None = None
    _before: dict[str, str] = field(default_factory=dict)

    @property
    def inside(self) -> Path:
        """`/kaggle`, as the notebook sees it."""
        return Path("/kaggle") if self.kind == "namespaces" else self.kaggle

    @property
    def kaggle(self) -> Path:
        """`/kaggle`, as it lies on this machine (without the input folder, which namespaces put together)."""
        return self.folder / "kaggle"

    @property
    def image(self) -> Path:
        """The clean environment, as it lies on this machine."""
        return self.kaggle / "image"

    def furnish(self, places: Sequence[Place], python: images.Python) -> None:
        """Make the clean environment and lay out the input folder.

        Raises:
            ResourceError: There is no room.
        """
        self._places, self._python = list(places), python
        for name in ("input", "working", "home", "tmp"):
            (self.kaggle / name).mkdir(parents=True)
        images.make(python, self.image)
        if self.kind == "python":
            images.refuse_network(self.image)
            self._copy_input()

    def start(self, script: Path, more: dict[str, str]) -> tuple[subprocess.Popen[bytes], Walls]:
        """Start the notebook's code; its output and errors come out of one pipe.

        Args:
            script: The code.
            more: Environment variables.

        Raises:
            ResourceError: The walls could not be put up.
        """
        shutil.copyfile(script, self.image / "notebook.py")
        command = [str(self.inside / "image" / "bin" / "python"), str(self.inside / "image" / "notebook.py")]
        environment = self._environment() | more
        if self.kind == "namespaces":
            return self._enter(command, environment)
        probe = subprocess.run(
            [command[0], "-c", _LOOK, str(self.inside / "input")],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if probe.returncode:
            raise ResourceError(f"the clean Python does not run: {probe.stderr.strip()[-300:]}")
        seen = json.loads(probe.stdout)
        (self.kaggle / "input" / ".written").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-I", str(_HERE / "bare.py"), *command],
            env=environment, cwd=self.kaggle / "working", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        return process, Walls("python", tuple(seen["interfaces"]), seen["outside"], seen["input"], self.reason)

    def changed(self) -> list[str]:
        """Files of the input folder that are not what they were (namespaces: it could not be written)."""
        if self.kind == "namespaces":
            return []
        after = _digests(self.kaggle / "input")
        return sorted(name for name in self._before.keys() | after.keys() if self._before.get(name) != after.get(name))

    def close(self) -> None:
        """Remove everything."""
        for place, folders, _ in os.walk(self.kaggle / "input"):
            for name in folders:
                Path(place, name).chmod(0o755)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        """Nothing of this machine's: no home, no credentials, no proxies, no settings of pip."""
        kaggle = self.inside
        kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "TZ") if name in os.environ}
        return kept | {
            "PATH": f"{kaggle / 'image' / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(kaggle / "home"), "TMPDIR": str(kaggle / "tmp"), "LANG": "C.UTF-8",
            "PIP_CONFIG_FILE": os.devnull, "PYTHONUNBUFFERED": "1", "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "TIEBREAK_KAGGLE_INPUT": str(kaggle / "input"), "TIEBREAK_KAGGLE_WORKING": str(kaggle / "working"),
        }  # fmt: skip

    def _copy_input(self) -> None:
        """Copies, so that what the notebook might write does not reach the pack; then without the right to write."""
        root = self.kaggle / "input"
        for place in self._places:
            target = root / place.target
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place.source, target)
            target.chmod(0o444)
        self._before = _digests(root)
        for folder, _, _ in os.walk(root, topdown=False):
            Path(folder).chmod(0o555)

    def _enter(self, command: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], Walls]:
        prefixes = self._python.prefixes if self._python else ()
        shown = [str(p) for p in prefixes if not any(p.is_relative_to(there) for there in _ENOUGH)]
        places = [[str(p.source.resolve()), f"/kaggle/input/{p.target}", False] for p in self._places]
        for name in ("image", "working", "home", "tmp"):
            places.append([str(self.kaggle / name), f"/kaggle/{name}", True])
        places.append([str(self.kaggle / "tmp"), "/tmp", True])  # noqa: S108 the notebook's own, not this machine's
        process, said = _launch(self.folder, shown, places, command, environment)
        if "refused" in said:
            process.wait()
            raise ResourceError(f"the walls around the notebook could not be put up: {said['refused']}")
        seen = said["entered"]
        return process, Walls("namespaces", tuple(seen["interfaces"]), seen["outside"], seen["input"])


def prepare(isolation: Isolation = "auto") -> Sandbox:
    """A new sandbox in a temporary folder, behind the best walls that this machine has.

    Args:
        isolation: `namespaces` goes on with nothing less; `python` does without them.

    Raises:
        UsageError: Namespaces were asked for, and this machine has none.
    """
    if sys.platform == "win32":
        raise UsageError("a notebook cannot be rehearsed on Windows", expected="Linux or macOS", mend="use WSL")
    folder = Path(tempfile.mkdtemp(prefix="tiebreak-kaggle-"))
    try:
        reason = "as asked" if isolation == "python" else _refusal(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if reason and isolation == "namespaces":
        shutil.rmtree(folder)
        raise UsageError(
            f"--isolation namespaces: this machine will not make any ({reason})",
            expected="Linux 5.12 or newer, and root or the right to make user namespaces",
            mend="--isolation auto, which says what it does without",
        )
    return Sandbox(folder, "python" if reason else "namespaces", reason)


def _refusal(folder: Path) -> str:
    """Why there are no namespaces; empty where there are."""
    if sys.platform != "linux":
        return f"no namespaces on {sys.platform}"
    process, said = _launch(folder, [], [[str(folder), "/kaggle/input", False]], ["/bin/true"], {})
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return str(said.get("refused", ""))


def _launch(
    folder: Path, shown: list[str], places: list[list[Any]], command: list[str], environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start the program that makes namespaces, and read what it says of them."""
    root, spec = folder / "root", folder / "spec.json"
    root.mkdir(exist_ok=True)
    storage.write_text(
        spec,
        json.dumps({
            "root": str(root), "shown": shown, "places": places, "read_only": "/kaggle/input", "command": command,
            "environment": environment, "directory": "/kaggle/working" if len(places) > 1 else "/",
        }),
    )  # fmt: skip
    mine, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", str(_HERE / "namespaces.py"), str(spec), str(theirs)],
            pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env={"PATH": os.defpath},
        )  # fmt: skip
    finally:
        os.close(theirs)
    try:
        with os.fdopen(mine, "rb") as pipe:
            line = pipe.readline()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if not line:
        said = (process.stdout.read() if process.stdout else b"").decode("utf-8", "replace").strip().splitlines()
        return process, {"refused": said[-1] if said else "no word why"}
    return process, json.loads(line)


def _digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): storage.sha256(p) for p in sorted(root.rglob("*")) if p.is_file()}
