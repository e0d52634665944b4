"""When each node started and how it ended: a line an event, a file a node, so that no two jobs write to one file."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Final

from tiebreak.flow.place import Place

STARTED: Final = "started"
RESUMED: Final = "resumed"
DONE: Final = "done"
UNCHANGED: Final = "unchanged"
FAILED: Final = "failed"
STOPPED: Final = "stopped"


@dataclass(frozen=True)
class Event:
    """Something that happened to a node.

    Attributes:
        node: Its name.
        kind: started, resumed (with the work of an attempt before), done, unchanged (nothing was to do), failed, or
            stopped (asked to; the same job goes on).
        time: Seconds since 1970.
        key: Of the work (`manifest.key`).
        run: The `flow run` that it belongs to; empty on a cluster.
        seconds: Of the attempt.
        code: Exit code of the command.
    """

    node: str
    kind: str
    time: float
    key: str = ""
    run: str = ""
    seconds: float = 0.0
    code: int = 0


def tell(
    place: Place, node: str, kind: str, *, key: str = "", run: str = "", seconds: float = 0, code: int = 0
) -> None:
    """Write an event down."""
    event = Event(node, kind, round(time.time(), 3), key, run, round(seconds, 3), code)
    # One write of one line: a job that is killed leaves a whole line or (with a power cut) a torn last one.
    line = (json.dumps(asdict(event)) + "\n").encode()
    descriptor = os.open(place.events(node), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read(place: Place, node: str, skip: int = 0) -> list[Event]:
    """The events of a node in their order, without the first `skip`."""
    try:
        text = place.events(node).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    # The last piece is empty, or a line that is being written.
    return [found for line in text.split("\n")[skip:-1] if (found := _event(line)) is not None]


def _event(line: str) -> Event | None:
    try:
        return Event(**json.loads(line))
    except (ValueError, TypeError):
        return None
