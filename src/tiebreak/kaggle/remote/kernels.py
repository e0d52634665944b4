"""Send the notebook, see that Kaggle took it as it is meant, and wait for its run."""

from __future__ import annotations

import hashlib
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from tiebreak.errors import DataError
from tiebreak.kaggle.metadata import Kernel
from tiebreak.kaggle.remote import answers, calls, existing, plan, targets, waiting
from tiebreak.kaggle.remote.existing import KernelRun, Notebook
from tiebreak.kaggle.remote.sending import Done, Push
from tiebreak.kaggle.remote.state import Begun, Part
from tiebreak.kaggle.remote.targets import Target

_LOOKS = 3


def send(push: Push, kernel: Target) -> Done:
    """Push the notebook, unless the last one pushed was the same, on the same wheels and models."""
    metadata = targets.with_versions(kernel, plan.versions(push.pack, push.pushed))
    wheels = push.pushed.parts.get("wheels")
    digest = plan.kernel_digest(kernel, metadata, push.wishes.accelerator, wheels.version if wheels else 0)
    part = push.pushed.part(kernel.name, kernel.id)
    begun = push.pushed.started(kernel.name, kernel.id, digest)
    if begun is not None and begun.before is not None:
        made = existing.notebook(push.client, f"{kernel.id}/{begun.before + 1}")
        if made is not None and made.cells == _cells(kernel):
            version, why = begun.before + 1, "made by a push that was stopped"
            return _settled(push, kernel, digest, version, "taken over", why, made)
    there = existing.notebook(push.client, kernel.id)
    why = _reason(kernel, part, there, digest, rerun=push.wishes.rerun)
    if part is not None and not why:
        return Done(kernel.name, kernel.id, "nothing", part.version, "as pushed")
    # The client does not tell the number of a version that was pushed from elsewhere.
    before = 0 if there is None else None if part is None else part.version
    push.listener.say(f"kernel: {why}: pushing {kernel.id}; Kaggle runs it at once")
    _name_versions(kernel, metadata)
    with push.noted(kernel.name, Begun(id=kernel.id, digest=digest, before=before)):
        answer = answers.require(push.client.call(*calls.run_kernel(kernel.folder, push.wishes.accelerator)))
        found = re.search(r"Kernel version (\d+) successfully pushed", answer.out)
        if found is None:
            raise DataError(f"kaggle kernels push: {answers.reason(answer)}", expected="the number of a version")
        seen = _verify(push, kernel, metadata)
    return _settled(push, kernel, digest, int(found[1]), "create" if before == 0 else "version", why, seen)


def wait(push: Push, kernel: Target) -> KernelRun:
    """Wait for the run of the version that was pushed.

    Raises:
        DataError: It failed.
    """
    part = push.pushed.part(kernel.name, kernel.id)
    age = (datetime.now(UTC) - datetime.fromisoformat(part.at)).total_seconds() if part is not None else 0.0
    run = waiting.until_run(push.client, kernel.id, age, push.wishes.pace, push.listener)
    if run.state != "complete":
        raise DataError(
            f"the run of {kernel.id} ended as {run.state}{': ' if run.failure else ''}{run.failure}",
            expected="a complete run",
            mend=f"tiebreak kaggle pull {push.pack.root} -o DIR for its log; push --rerun runs it again",
        )
    return run


def _settled(
    push: Push, kernel: Target, digest: str, version: int, action: str, why: str, seen: Notebook | None
) -> Done:  # fmt: skip
    cells = "" if seen is None else _digest(seen.cells)
    push.settle(kernel.name, Part(id=kernel.id, digest=digest, version=version, cells=cells))
    return Done(kernel.name, kernel.id, action, version, why)


def _reason(kernel: Target, part: Part | None, there: Notebook | None, digest: str, *, rerun: bool) -> str:
    """Why the notebook is to be pushed; empty: it is not."""
    if there is None:
        return "not on Kaggle yet"
    if part is None:
        return "on Kaggle, but not pushed from this pack"
    if part.digest != digest:
        return "it, its wheels or its models changed"
    if part.cells and part.cells != _digest(there.cells):
        return "the one on Kaggle is not the one pushed"
    return "to run again" if rerun else ""


def _digest(cells: list[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _cells(kernel: Target) -> list[tuple[str, str]]:
    return existing.cells(kernel.folder / str(kernel.metadata["code_file"]))


def _name_versions(kernel: Target, metadata: dict[str, Any]) -> None:
    """Write into the pack which versions of the model the notebook reads: it is part of no digest."""
    if metadata != kernel.metadata:
        written = Kernel.read(kernel.folder)
        written.model_copy(update={"model_sources": metadata["model_sources"]}).write(kernel.folder)


def _verify(push: Push, kernel: Target, metadata: dict[str, Any]) -> Notebook | None:
    """The notebook as Kaggle has it, if it shows it.

    Kaggle leaves out sources that it does not know, and its client does not tell of models.

    Raises:
        DataError: Kaggle took something else than was sent.
    """
    there = _pulled(push, kernel)
    if there is None:
        push.listener.say("warning: Kaggle does not show the notebook yet; what it took of it is not known")
        return None
    gone = [
        f"{key.removesuffix('_sources')} {source}"
        for key in ("dataset_sources", "competition_sources", "model_sources")
        for source in metadata.get(key) or []
        if _plain(source) not in {_plain(taken) for taken in there.metadata.get(key) or []}
    ]
    if gone:
        raise DataError(
            f"Kaggle took the notebook without {', '.join(gone)}",
            expected="all its sources",
            mend="join the competition and accept its rules; tiebreak kaggle status shows what is on Kaggle; then push "
            "again",
        )
    if there.metadata.get("enable_internet") and metadata.get("enable_internet") is False:
        raise DataError("Kaggle switched the notebook's internet on", expected="enable_internet false")
    wanted, got = push.wishes.accelerator or metadata.get("machine_shape"), there.metadata.get("machine_shape")
    if wanted and got and wanted != got:
        push.listener.say(f"warning: Kaggle runs it on {got} instead of {wanted}")
    return there


def _pulled(push: Push, kernel: Target) -> Notebook | None:
    for look in range(_LOOKS):
        if look:
            time.sleep(push.wishes.pace.every)
        there = existing.notebook(push.client, kernel.id)
        if there is not None and there.cells == _cells(kernel):
            return there
    return None


def _plain(source: str) -> str:
    """A source without what Kaggle spells in its own way: capitals, and the name of a framework."""
    parts = str(source).lower().split("/")
    return "/".join([*parts[:2], *parts[3:]] if len(parts) == 5 else parts)
