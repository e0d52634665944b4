"""`status`: what of a pack is on Kaggle, how its notebook's run stands, and what the last submissions scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.remote import calls, existing, state, targets
from tiebreak.kaggle.remote.calls import Call
from tiebreak.kaggle.remote.client import Client
from tiebreak.kaggle.remote.existing import KernelRun
from tiebreak.kaggle.remote.state import Pushed
from tiebreak.kaggle.remote.targets import Target

SUBMISSIONS: Final = 5


@dataclass(frozen=True)
class Standing:
    """How one thing stands.

    Attributes:
        name: wheels, model, judge, base or kernel.
        id: What Kaggle calls it.
        here: Version that was pushed from this pack; None: none was.
        there: Latest version on Kaggle; None: it is not there, or Kaggle's client does not tell.
        state: What Kaggle says of it.
        changed: Whether the pack holds something else than was pushed; None: nothing was pushed, or it is the
            notebook, whose changes are told by push.
    """

    name: str
    id: str
    here: int | None
    there: int | None
    state: str
    changed: bool | None


@dataclass(frozen=True)
class Status:
    """All of it; submissions and quota (of GPU and TPU hours this week) as Kaggle's client gives them."""

    parts: list[Standing]
    run: KernelRun
    submissions: list[dict[str, Any]]
    quota: list[dict[str, Any]]


def status(pack: Layout, client: Client) -> Status:
    """Ask Kaggle how everything stands.

    Raises:
        TiebreakError: Nobody is signed in, or Kaggle cannot be asked.
    """
    client.credentials.require()
    pushed, found = state.read(pack), targets.read(pack)
    kernel = found[-1]
    run = existing.run_of(client, kernel.id)
    parts = [_standing(client, target, pushed) for target in found[:-1]]
    part = pushed.part(kernel.name, kernel.id)
    parts.append(Standing(kernel.name, kernel.id, part.version if part else None, None, run.state, None))
    listed = existing.submissions(client, targets.competition(kernel))
    return Status(parts, run, listed[:SUBMISSIONS], existing.quota(client))


def questions(pack: Layout) -> list[Call]:
    """The calls that `status` makes."""
    found = targets.read(pack)
    kernel = found[-1]
    asked = [calls.kernel_status(kernel.id), *(calls.look(target.kind, target.id) for target in found[:-1])]
    return [*asked, calls.submissions(targets.competition(kernel)), calls.quota()]


def _standing(client: Client, target: Target, pushed: Pushed) -> Standing:
    there, part = existing.look(client, target), pushed.part(target.name, target.id)
    changed = None if part is None else (part.digest, part.card) != (target.digest(), target.card())
    return Standing(
        target.name, target.id, part.version if part else None, there.version if there else None,
        there.state if there else "not there", changed,
    )  # fmt: skip
