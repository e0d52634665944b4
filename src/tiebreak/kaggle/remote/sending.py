"""Send a dataset, a model or an instance of a model: make it, or a version of it, and see that it arrived."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tiebreak.errors import DataError
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.remote import answers, existing, plan, state, waiting
from tiebreak.kaggle.remote.client import Client
from tiebreak.kaggle.remote.plan import Action, Wishes
from tiebreak.kaggle.remote.state import Begun, Part, Pushed
from tiebreak.kaggle.remote.targets import Target
from tiebreak.listening import Listener


@dataclass(frozen=True)
class Done:
    """What was done with one thing.

    Attributes:
        name: wheels, model, judge, base or kernel.
        id: What Kaggle calls it.
        action: What was done; taken over: an earlier push had sent it and was stopped before it could note that.
        version: The version on Kaggle; 0 for a model.
        why: The reason.
    """

    name: str
    id: str
    action: Action | str
    version: int
    why: str


@dataclass
class Push:
    """What the steps of one push share."""

    pack: Layout
    client: Client
    pushed: Pushed
    wishes: Wishes
    listener: Listener
    uploads: Path

    @contextmanager
    def noted(self, name: str, begun: Begun) -> Iterator[None]:
        """Write down what is about to be sent; forget it if Kaggle refuses, but not if we are stopped or cut off."""
        self.pushed.begun[name] = begun
        state.write(self.pack, self.pushed)
        try:
            yield
        except DataError:
            del self.pushed.begun[name]
            state.write(self.pack, self.pushed)
            raise

    def settle(self, name: str, part: Part) -> None:
        """Write down what is on Kaggle now."""
        self.pushed.parts[name] = part
        self.pushed.begun.pop(name, None)
        state.write(self.pack, self.pushed)


def send(push: Push, target: Target) -> Done:
    """Bring a dataset, a model or an instance to what the pack holds."""
    digest, card = target.digest(), target.card()
    there = existing.look(push.client, target)
    begun = push.pushed.started(target.name, target.id, digest)
    arrived = there is not None and begun is not None and begun.before is not None
    if arrived and target.kind == "model":
        return _settled(push, target, digest, card, 0, "taken over", "made by a push that was stopped")
    if arrived and begun is not None and there is not None and there.version > (begun.before or 0):
        push.listener.say(f"{target.name}: version {there.version} was made by a push that was stopped")
        with push.noted(target.name, begun):
            version = waiting.until_ready(push.client, target, (begun.before or 0) + 1, push.wishes.pace, push.listener)
        return _settled(push, target, digest, card, version, "taken over", "made by a push that was stopped")
    part = push.pushed.part(target.name, target.id)
    decision = plan.decide(target, digest, card, part, there)
    before = 0 if there is None else there.version
    version = before if part is None or decision.action != "nothing" else part.version
    notes = plan.notes(push.pack, push.wishes, digest)
    for call in plan.sending(target, decision.action, notes, public=plan.is_public(push.pack)):
        push.listener.say(f"{target.name}: {decision.why}: {_doing(decision.action)} {target.id}")
        with push.noted(target.name, Begun(id=target.id, digest=digest, before=before)):
            sends_files = decision.action in ("create", "version") and bool(target.files)
            _call(push, target, call, push.uploads / digest[:16] if sends_files else None)
            if sends_files:
                version = waiting.until_ready(push.client, target, before + 1, push.wishes.pace, push.listener)
    return _settled(push, target, digest, card, version, decision.action, decision.why)


def _settled(push: Push, target: Target, digest: str, card: str, version: int, action: str, why: str) -> Done:
    if action != "nothing":
        push.settle(target.name, Part(id=target.id, digest=digest, card=card, version=version))
        shutil.rmtree(push.uploads / digest[:16], ignore_errors=True)
    return Done(target.name, target.id, action, version, why)


def _doing(action: Action) -> str:
    return {"create": "making", "version": "a new version of", "update": "new metadata for"}.get(action, "")


def _call(push: Push, target: Target, call: tuple[str, ...], uploads: Path | None) -> None:
    if uploads is None:
        answers.require(push.client.call(*call))
        return
    megabytes = -(-target.bytes // 1_000_000)
    with push.listener.progress(f"upload {target.name}", megabytes, "MB") as advance:
        answers.require(push.client.call(*call, line=_counter(target, advance), uploads=uploads))


def _counter(target: Target, advance: Callable[[int], None]) -> Callable[[str], None]:
    """Counts megabytes by the client's words about each file."""
    done = shown = 0

    def line(text: str) -> None:
        nonlocal done, shown
        found = re.match(r"Upload successful: (.+) \(\S+\)$", text)
        if found is not None:
            done += target.files.get(found[1], 0)
            advance(-(-done // 1_000_000) - shown)
            shown = -(-done // 1_000_000)

    return line
