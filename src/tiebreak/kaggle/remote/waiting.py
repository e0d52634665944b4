"""Kaggle takes its time over versions and runs: look now and then, say how it stands, and give up in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tiebreak.errors import DataError, StoppedError
from tiebreak.kaggle.remote import existing
from tiebreak.kaggle.remote.client import Client
from tiebreak.kaggle.remote.existing import KernelRun, There
from tiebreak.kaggle.remote.targets import Target
from tiebreak.listening import Listener

HOUR: Final = 3600.0
_HEARTBEAT: Final = 300.0
T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How patient to be; all in seconds.

    Attributes:
        every: Between two looks.
        version: For a dataset or a model to become ready.
        run: For a notebook to finish, its time in the queue included.
    """

    every: float = 20.0
    version: float = HOUR / 2
    run: float = 14 * HOUR

    @property
    def settle(self) -> float:
        """After a push, Kaggle may still tell of the run before: a finished one is believed after this."""
        return 3 * self.every


def until_ready(client: Client, target: Target, at_least: int, pace: Pace, listener: Listener) -> int:
    """Wait until a version of a dataset or an instance is there with all its files; its number.

    Args:
        client: The client.
        target: What was sent.
        at_least: The lowest number that the new version can have.
        pace: How long.
        listener: Who is told.

    Raises:
        DataError: Kaggle could not make it, or made it without some of its files.
        StoppedError: It took too long.
    """
    said, lacking = "", list[str]()

    def look() -> int | None:
        nonlocal said, lacking
        there = existing.look(client, target)
        if there is not None and there.state in ("failed", "deleted"):
            raise DataError(
                f"Kaggle says that {target.id} has {there.state}",
                expected="a version that is ready",
                mend=f"see its page, https://www.kaggle.com/{_page(target)}; then the same command",
            )
        said = _standing(there, at_least)
        if said or there is None:
            return None
        lacking = existing.lacking(client, target, there.version)
        said = f"without {', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''}" if lacking else ""
        return None if lacking else there.version

    found = _poll(look, pace.every, pace.version, f"Kaggle on {target.name}", lambda: said, listener)
    if found is None and lacking:
        raise DataError(
            f"{target.id} is on Kaggle {said}",
            expected="all that was uploaded",
            mend="the same command: it makes a further version",
        )
    if found is None:
        raise StoppedError(
            f"{target.id} is not ready after {pace.version / 60:.0f} minutes: {said}",
            mend="the same command goes on waiting; nothing is uploaded again",
        )
    return found


def until_run(client: Client, kernel: str, age: float, pace: Pace, listener: Listener) -> KernelRun:
    """Wait until the last run of a notebook has finished, well or not.

    Args:
        client: The client.
        kernel: OWNER/SLUG.
        age: Seconds since it was pushed.
        pace: How long.
        listener: Who is told.

    Raises:
        StoppedError: It took too long.
    """
    started, under_way = time.monotonic() - age, False
    run = KernelRun("none")

    def look() -> KernelRun | None:
        nonlocal run, under_way
        run = existing.run_of(client, kernel)
        if run.state in ("queued", "running", "none"):
            under_way = under_way or run.state != "none"
            return None
        return run if under_way or time.monotonic() - started >= pace.settle else None

    found = _poll(look, pace.every, pace.run, "run on Kaggle", lambda: run.state, listener)
    if found is None:
        raise StoppedError(
            f"the run of {kernel} is still {run.state} after {pace.run / HOUR:.0f} hours",
            mend="the same command goes on waiting",
        )
    return found


def _standing(there: There | None, at_least: int) -> str:
    """What there is still to wait for; empty: nothing."""
    if there is None:
        return "not to be seen yet"
    if there.version < at_least:
        return f"version {there.version} still, not {at_least}"
    return "" if there.ready else there.state


def _poll(
    look: Callable[[], T | None], every: float, patience: float, what: str, standing: Callable[[], str],
    listener: Listener,
) -> T | None:  # fmt: skip
    """Look until there is something to see; say how it stands when that changes, and every five minutes."""
    started, told, at = time.monotonic(), "", 0.0
    while True:
        found = look()
        if found is not None:
            return found
        waited = time.monotonic() - started
        if standing() != told or waited - at >= _HEARTBEAT:
            told, at = standing(), waited
            listener.say(f"  {what}: {told}{f', after {waited / 60:.0f} minutes' if waited >= 60 else ''}")
        if waited + every > patience:
            return None
        time.sleep(every)


def _page(target: Target) -> str:
    return f"datasets/{target.id}" if target.kind == "wheels" else f"models/{target.id}"
