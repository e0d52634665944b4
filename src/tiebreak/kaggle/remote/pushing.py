"""`push`: wheels, model, instances and notebook of a pack to Kaggle, in this order, each only if it changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tiebreak import locking, storage
from tiebreak.errors import UsageError
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.remote import existing, handing_in, kernels, plan, sending, state, targets
from tiebreak.kaggle.remote.client import Client
from tiebreak.kaggle.remote.existing import KernelRun
from tiebreak.kaggle.remote.plan import Wishes
from tiebreak.kaggle.remote.sending import Done, Push
from tiebreak.kaggle.remote.state import Submitted
from tiebreak.listening import SILENT, Listener


@contextmanager
def session(pack: Layout, client: Client, wishes: Wishes, listener: Listener = SILENT) -> Iterator[Push]:
    """One push of a pack at a time: a client that outlived a killed push counts as one.

    Raises:
        UsageError: Another push of this pack is at work, or nobody is signed in.
    """
    client.credentials.require()
    folder = _folder(pack)
    held = locking.hold(folder / "lock")
    if held is None:
        raise UsageError(
            f"another push of {pack.root} is at work, or an upload of one that was killed",
            mend="wait until it ends, then the same command",
        )
    with held:
        locked = replace(client, lock=held)
        yield Push(pack, locked, state.read(pack), wishes, listener, folder / "uploads")


def send(push: Push) -> list[Done]:
    """Send what changed.

    Raises:
        TiebreakError: Kaggle refuses or cannot be reached; the same command goes on where this one ended.
    """
    wanted = plan.wanted(push.pack, push.wishes)
    _check_owner(push, wanted[-1].id)
    done = [kernels.send(push, target) if target.kind == "kernel" else sending.send(push, target) for target in wanted]
    if push.wishes.only is None:
        # Half-done uploads of what the pack held at another time.
        shutil.rmtree(push.uploads, ignore_errors=True)
    return done


def wait(push: Push) -> KernelRun:
    """Wait for the notebook's run.

    Raises:
        DataError: It failed.
        StoppedError: It takes too long.
    """
    return kernels.wait(push, targets.read(push.pack)[-1])


def submit(push: Push, message: str) -> Submitted:
    """Hand in the notebook's version that was pushed, once."""
    return handing_in.submit(push, targets.read(push.pack)[-1], message)


def _check_owner(push: Push, id: str) -> None:
    user, owner = existing.user(push.client), id.partition("/")[0]
    if user and user.lower() != owner.lower():
        push.listener.say(f"warning: {user} is signed in and the pack is {owner}'s: right for an organisation only")


def _folder(pack: Layout) -> Path:
    """Where what must outlive a push lies: half-done uploads, which hold addresses that others must not see."""
    name = hashlib.sha256(str(pack.root.resolve()).encode()).hexdigest()[:16]
    folder = storage.cache_folder() / "kaggle" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
