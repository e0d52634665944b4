"""Where a flow stands: of each node whether it is done, runs, failed or waits, for how long, and how large it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tiebreak import locking
from tiebreak.flow import events, manifest, settling
from tiebreak.flow.node import Node
from tiebreak.flow.place import Place

DONE = "done"
RUNNING = "running"
FAILED = "failed"
STOPPED = "stopped"
WAITING = "waiting"
STATES = (DONE, RUNNING, FAILED, STOPPED, WAITING)


@dataclass(frozen=True)
class State:
    """Of one node.

    Attributes:
        node: Its name.
        stage: Its kind.
        state: done, running, failed, stopped (unfinished; the same job goes on) or waiting.
        seconds: Of the attempt that finished or that runs; None where there is none.
        size: Bytes of the outputs; None where it is not done.
        said: Why it is to be done, or the exit code that it failed with.
    """

    node: str
    stage: str
    state: str
    seconds: float | None = None
    size: int | None = None
    said: str = ""


def status(where: Place, nodes: Sequence[Node]) -> list[State]:
    """The state of every node, in the order of the chain."""
    stands = settling.standing(where, nodes)
    reasons = settling.reasons(where, nodes, stands)
    return [_state(where, node, stands, reasons) for node in nodes]


def _state(where: Place, node: Node, stands: dict[str, manifest.Manifest], reasons: dict[str, str]) -> State:
    found = stands.get(node.name)
    if found is not None:
        return State(node.name, node.stage, DONE, found.seconds, found.size)
    last = next(iter(events.read(where, node.name)[-1:]), None)
    if locking.is_held(where.node_lock(node.name)):
        seconds = None if last is None else max(time.time() - last.time, 0)
        return State(node.name, node.stage, RUNNING, seconds)
    reason = reasons.get(node.name, "")
    if last is None or last.kind in {events.DONE, events.UNCHANGED}:
        return State(node.name, node.stage, WAITING, said=reason)
    if last.kind == events.FAILED:
        return State(node.name, node.stage, FAILED, last.seconds, said=f"exit code {last.code}")
    return State(node.name, node.stage, STOPPED, last.seconds or None, said=reason)
