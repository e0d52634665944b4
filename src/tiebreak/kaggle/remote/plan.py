"""What a push will do, and why: decided alike for a dry run and for a push."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import tiebreak
from tiebreak.errors import DataError
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.packing import record
from tiebreak.kaggle.remote import calls, state, targets
from tiebreak.kaggle.remote.calls import Call
from tiebreak.kaggle.remote.existing import There
from tiebreak.kaggle.remote.state import Part, Pushed
from tiebreak.kaggle.remote.targets import Target
from tiebreak.kaggle.remote.waiting import Pace

Only = Literal["wheels", "model", "kernel"]
Action = Literal["create", "version", "update", "nothing"]
_KINDS: Final = {"wheels": ("wheels",), "model": ("model", "instance"), "kernel": ("kernel",)}


@dataclass(frozen=True)
class Wishes:
    """What a push is asked for.

    Attributes:
        only: Send this alone.
        notes: Notes of new versions; empty: the version of tiebreak and the digest.
        accelerator: In the place of the machine that the notebook's metadata name.
        rerun: Run the notebook again although nothing changed.
        submit: Hand the notebook in with this message once its run is complete.
        pace: How patient to be.
    """

    only: Only | None = None
    notes: str = ""
    accelerator: str | None = None
    rerun: bool = False
    submit: str | None = None
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True)
class Decision:
    """What is done with one thing, and why."""

    action: Action
    why: str


def wanted(pack: Layout, wishes: Wishes) -> list[Target]:
    """What is to be sent, in order."""
    found = targets.read(pack)
    return found if wishes.only is None else [target for target in found if target.kind in _KINDS[wishes.only]]


def notes(pack: Layout, wishes: Wishes, digest: str) -> str:
    """Notes of a version: as asked for, as packed, or what it holds."""
    packed = record.read(pack).notes if pack.record.is_file() else ""
    return wishes.notes or packed or f"tiebreak {tiebreak.__version__}, sha256 {digest[:12]}"


def is_public(pack: Layout) -> bool:
    """Whether all may see it: a dataset's metadata do not say, so it goes by the notebook that reads it."""
    return targets.read(pack)[-1].metadata.get("is_private") is False


def decide(target: Target, digest: str, card: str, part: Part | None, there: There | None) -> Decision:
    """What is to be done with a dataset, a model or an instance.

    Args:
        target: It.
        digest: Of its files here.
        card: Of its metadata here.
        part: What was pushed last.
        there: What is on Kaggle.
    """
    if there is None:
        return Decision("create", "not on Kaggle yet")
    if target.kind == "model":
        same = part is not None and part.card == card
        return Decision("nothing", "as pushed") if same else Decision("update", "its card changed")
    if part is None:
        return Decision("version", "on Kaggle, but not pushed from this pack")
    if part.digest != digest:
        return Decision("version", "its files changed")
    # A notebook names the version of a model, but always gets the latest of a dataset.
    if there.version < part.version or (target.kind == "wheels" and there.version != part.version):
        return Decision("version", f"version {there.version} on Kaggle is not the one pushed, {part.version}")
    if part.card != card:
        return Decision("version" if target.kind == "wheels" else "update", "its metadata changed")
    return Decision("nothing", "as pushed")


def versions(pack: Layout, pushed: Pushed) -> dict[str, int]:
    """The versions of the pack's instances that a notebook is to name.

    Raises:
        DataError: One was never pushed.
    """
    found = {}
    for target in targets.read(pack):
        if target.kind == "instance":
            part = pushed.part(target.name, target.id)
            if part is None:
                raise DataError(f"{target.id} was never pushed", mend="tiebreak kaggle push without --only")
            found[target.id] = part.version
    return found


@dataclass(frozen=True)
class Step:
    """What a dry run says of one thing: a line for people, and the calls."""

    name: str
    id: str
    decision: Decision
    bytes: int
    calls: list[Call]
    remark: str = ""


def foresee(pack: Layout, wishes: Wishes) -> list[Step]:
    """What a push would do if Kaggle is as the last push from here left it; nothing is asked or sent."""
    pushed = state.read(pack)
    steps: list[Step] = []
    numbers: dict[str, int] = {}
    for target in wanted(pack, wishes):
        if target.kind == "kernel":
            steps.append(_kernel(target, pushed, numbers, wishes))
            continue
        digest, card = target.digest(), target.card()
        part = pushed.part(target.name, target.id)
        decision = decide(target, digest, card, part, None if part is None else There(part.version))
        number = (0 if part is None else part.version) + (decision.action in ("create", "version"))
        numbers[target.id] = number
        made = sending(target, decision.action, notes(pack, wishes, digest), public=is_public(pack))
        after = (
            [calls.look(target.kind, target.id)] if target.files and decision.action in ("create", "version") else []
        )
        listed = [calls.files(target.kind, target.id, number)] if after else []
        steps.append(
            Step(
                target.name,
                target.id,
                decision,
                target.bytes,
                [calls.look(target.kind, target.id), *made, *after, *listed],
            )
        )
    return steps


def sending(target: Target, action: Action, notes: str, *, public: bool) -> list[Call]:
    """The call that carries out a decision; none for nothing.

    Args:
        target: What is sent.
        action: What was decided.
        notes: Of a new version.
        public: Whether a dataset that is made is for all to see.
    """
    if action == "create":
        return [calls.create(target, public=public)]
    if action == "version":
        return [calls.new_version(target, notes)]
    return [calls.update(target)] if action == "update" else []


def kernel_digest(kernel: Target, metadata: dict[str, Any], accelerator: str | None, wheels: int) -> str:
    """Of all that decides what a run does: a dataset is read in its latest version, which no metadata name."""
    held = [kernel.digest(), metadata, accelerator, wheels]
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def _kernel(kernel: Target, pushed: Pushed, numbers: dict[str, int], wishes: Wishes) -> Step:
    known = {part.id: part.version for part in pushed.parts.values()} | numbers
    named = targets.with_versions(kernel, known)
    remark = ""
    if named != kernel.metadata:
        remark = f"kernel-metadata.json then names {', '.join(named['model_sources'])}"
    part = pushed.part(kernel.name, kernel.id)
    wheels = next((known[id] for id in kernel.metadata.get("dataset_sources", []) if id in known), 0)
    decision = _rerun(part, kernel_digest(kernel, named, wishes.accelerator, wheels), wishes)
    sends = decision.action != "nothing"
    made = [calls.run_kernel(kernel.folder, wishes.accelerator)] if sends else []
    made += [calls.pull_kernel(kernel.id, Path("pulled"))] if sends else []
    if wishes.submit is not None:
        number = (0 if part is None else part.version) + sends
        made += [calls.kernel_status(kernel.id), calls.submissions(targets.competition(kernel))]
        made.append(calls.output(kernel.id, Path("pulled"), calls.SUBMISSION))
        made.append(calls.submit(targets.competition(kernel), kernel.id, number, wishes.submit))
    return Step(kernel.name, kernel.id, decision, kernel.bytes, made, remark)


def _rerun(part: Part | None, digest: str, wishes: Wishes) -> Decision:
    if part is None:
        return Decision("create", "not on Kaggle yet")
    if part.digest != digest:
        return Decision("version", "it, its wheels or its models changed")
    return Decision("version", "to run again") if wishes.rerun else Decision("nothing", "as pushed")
