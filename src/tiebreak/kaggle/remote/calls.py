"""The calls of the client, word by word. A dry run prints the same that a push makes."""

from __future__ import annotations

from pathlib import Path

from tiebreak.kaggle.remote.targets import Target

Call = tuple[str, ...]
OUTPUT = "submission.csv"
SUBMISSION = r"^submission\.csv$"


def whoami() -> Call:
    """Who is signed in, as the client sees it."""
    return ("config", "view")


def look(kind: str, id: str) -> Call:
    """Whether something is on Kaggle, and its version."""
    return {
        "wheels": ("datasets", "status", id, "--format", "json"),
        "model": ("models", "get", id),
        "instance": ("models", "variations", "get", id),
    }[kind]


def files(kind: str, id: str, version: int) -> Call:
    """The names of the files of one version."""
    verb = ("datasets", "files") if kind == "wheels" else ("models", "variations", "versions", "files")
    return (*verb, f"{id}/{version}", "--format", "json", "--page-size", "200")


def create(target: Target, *, public: bool = False) -> Call:
    """Make something that is not there."""
    folder = ("-p", str(target.folder))
    if target.kind == "wheels":
        return ("datasets", "create", *folder, *(("--public",) if public else ()))
    return ("models", "create", *folder) if target.kind == "model" else ("models", "variations", "create", *folder)


def update(target: Target) -> Call:
    """Say what a model's or an instance's metadata say now."""
    verb = ("models", "update") if target.kind == "model" else ("models", "variations", "update")
    return (*verb, "-p", str(target.folder))


def new_version(target: Target, notes: str) -> Call:
    """A further version of a dataset or an instance."""
    if target.kind == "wheels":
        return ("datasets", "version", "-p", str(target.folder), "-m", notes)
    return ("models", "variations", "versions", "create", target.id, "-p", str(target.folder), "-n", notes)


def run_kernel(folder: Path, accelerator: str | None) -> Call:
    """Send the notebook; Kaggle runs it at once."""
    return ("kernels", "push", "-p", str(folder), *(("--accelerator", accelerator) if accelerator else ()))


def kernel_status(id: str) -> Call:
    """How the notebook's last run stands."""
    return ("kernels", "status", id)


def pull_kernel(id: str, folder: Path) -> Call:
    """A notebook and its metadata, as Kaggle has them."""
    return ("kernels", "pull", id, "-p", str(folder), "--metadata")


def output(id: str, folder: Path, pattern: str = "") -> Call:
    """What the last run wrote, and its log."""
    return ("kernels", "output", id, "-p", str(folder), "--force", *(("--file-pattern", pattern) if pattern else ()))


def submit(competition: str, kernel: str, version: int, message: str) -> Call:
    """Hand in what a version of the notebook writes."""
    return ("competitions", "submit", competition, "-k", kernel, "-v", str(version), "-f", OUTPUT, "-m", message)


def submissions(competition: str) -> Call:
    """The last submissions and their scores."""
    return ("competitions", "submissions", competition, "--format", "json")


def quota() -> Call:
    """Hours of GPU and TPU that are left this week."""
    return ("quota", "--format", "json")


def download(kind: str, id: str, version: int, folder: Path) -> Call:
    """All files of one version, as one archive."""
    if kind == "wheels":
        return ("datasets", "download", f"{id}/{version}", "-p", str(folder), "--force")
    return ("models", "variations", "versions", "download", f"{id}/{version}", "-p", str(folder), "--force")
