"""What is on Kaggle now, asked through the client."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tiebreak.errors import DataError
from tiebreak.kaggle import layout
from tiebreak.kaggle.remote import answers, calls
from tiebreak.kaggle.remote.answers import Answer
from tiebreak.kaggle.remote.client import Client
from tiebreak.kaggle.remote.targets import Target

State = Literal["none", "queued", "running", "complete", "error", "cancelled"]
_STATES: dict[str, State] = {
    "QUEUED": "queued",
    "NEW_SCRIPT": "queued",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "ERROR": "error",
    "CANCEL_REQUESTED": "cancelled",
    "CANCEL_ACKNOWLEDGED": "cancelled",
}


@dataclass(frozen=True)
class There:
    """Something that is on Kaggle.

    Attributes:
        version: Number of its latest version; 0 for a model.
        ready: Whether Kaggle has finished with it.
        state: What Kaggle says of it.
    """

    version: int
    ready: bool = True
    state: str = "ready"


@dataclass(frozen=True)
class KernelRun:
    """The last run of a notebook.

    Attributes:
        state: How it stands; none: it never ran, or there is no such notebook.
        failure: Why it failed, in Kaggle's words.
    """

    state: State
    failure: str = ""


def user(client: Client) -> str:
    """Who is signed in; empty if the client does not say."""
    answer = answers.require(client.call(*calls.whoami()))
    found = re.search(r"^- username: (.*)$", answer.out, re.MULTILINE)
    return "" if found is None or found[1] == "None" else found[1].strip()


def look(client: Client, target: Target) -> There | None:
    """A dataset, a model or an instance; None: there is none that one may see.

    Raises:
        TiebreakError: Kaggle cannot be asked.
    """
    answer = client.call(*calls.look(target.kind, target.id))
    if answers.missing(answer):
        return None
    said = _object(answers.require(answer))
    if target.kind == "wheels":
        state = str(said.get("status", ""))
        return There(int(said.get("current_version_number") or 0), state == "ready", state)
    return There(int(said.get("versionNumber") or 0) if target.kind == "instance" else 0)


def lacking(client: Client, target: Target, version: int) -> list[str]:
    """Files of ours that a version on Kaggle does not have."""
    answer = client.call(*calls.files(target.kind, target.id, version))
    if answers.missing(answer):
        return sorted(target.files)
    listed = answers.require(answer).json() or []
    # An archive that Kaggle has unpacked is a folder of its name.
    there = {part for file in listed if isinstance(file, dict) for part in Path(str(file.get("name", ""))).parts}
    # The client lists one page; who has more files than that is believed.
    return [] if "Next Page Token" in answer.out else sorted(target.files.keys() - there)


def run_of(client: Client, kernel: str) -> KernelRun:
    """How the last run of a notebook stands."""
    answer = client.call(*calls.kernel_status(kernel))
    if answers.missing(answer):
        return KernelRun("none")
    said = answers.require(answer).out
    found = re.search(r'has status "(?:\w+\.)?(\w+)"', said)
    failure = re.search(r'^Failure message: "(.*)"', said, re.MULTILINE | re.DOTALL)
    if found is None or found[1].upper() not in _STATES:
        raise DataError(f"kaggle kernels status {kernel}: {said.strip()!r}", expected="the status of a run")
    return KernelRun(_STATES[found[1].upper()], failure[1] if failure else "")


@dataclass(frozen=True)
class Notebook:
    """A notebook as Kaggle has it: what its metadata say, and its cells as `(kind, text)`."""

    metadata: dict[str, Any]
    cells: list[tuple[str, str]]


def notebook(client: Client, kernel: str) -> Notebook | None:
    """A notebook on Kaggle; None: there is none that one may see.

    Args:
        client: The client.
        kernel: OWNER/SLUG, or OWNER/SLUG/VERSION.
    """
    with tempfile.TemporaryDirectory(prefix="tiebreak-") as folder:
        answer = client.call(*calls.pull_kernel(kernel, Path(folder)))
        if answers.missing(answer):
            return None
        answers.require(answer)
        try:
            metadata = json.loads((Path(folder) / layout.KERNEL_METADATA).read_text(encoding="utf-8"))
            return Notebook(metadata, cells(Path(folder) / str(metadata["code_file"])))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"kaggle kernels pull {kernel}: what came cannot be read: {error}") from error


def cells(path: Path) -> list[tuple[str, str]]:
    """The cells of a notebook, so that two can be compared however they are written; blank ends and cells aside."""
    held = json.loads(path.read_text(encoding="utf-8"))
    found = [(str(cell["cell_type"]), "".join(cell["source"]).rstrip()) for cell in held.get("cells", [])]
    return [(kind, text) for kind, text in found if text]


def submissions(client: Client, competition: str) -> list[dict[str, Any]]:
    """The last submissions: ref, fileName, date, description, status, publicScore, privateScore."""
    answer = answers.require(client.call(*calls.submissions(competition)))
    return [row for row in answer.json() or [] if isinstance(row, dict)]


def quota(client: Client) -> list[dict[str, Any]]:
    """What is left of this week's hours of GPU and TPU: resource, used, remaining, total, refreshAt; empty: untold."""
    answer = client.call(*calls.quota())
    rows = answer.json() if answer.code == 0 else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _object(answer: Answer) -> dict[str, Any]:
    said = answer.json()
    if not isinstance(said, dict):
        raise DataError(
            f"kaggle {' '.join(answer.arguments)}: {answers.reason(answer)}",
            expected="a JSON object",
            mend='pip install --upgrade "tiebreak[kaggle]"',
        )
    return said
