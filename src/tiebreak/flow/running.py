"""A flow, run: the graph is written down, Snakemake works through it, and what happens is told as it happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO, Final

from tiebreak import locking, storage
from tiebreak.errors import (
    DataError,
    GateError,
    MissingExtraError,
    ResourceError,
    StoppedError,
    TiebreakError,
    UsageError,
)
from tiebreak.flow import events, graph, guard, place, reading, settling, snakefile
from tiebreak.flow.events import Event
from tiebreak.flow.launching import Launch
from tiebreak.flow.node import Node
from tiebreak.flow.place import Place
from tiebreak.flow.schema import Flow
from tiebreak.train.finetune import read as finetune

PERIOD: Final = 0.2
TAIL: Final = 12
"""Lines of a log that an error shows."""

SOURCES: Final = ".snakemake/source-cache"

_ERRORS: Final[dict[int, type[TiebreakError]]] = {2: UsageError, 3: DataError, 5: ResourceError, 6: GateError}


@dataclass(frozen=True)
class Outcome:
    """What a run left behind.

    Attributes:
        judge: The finished judge; None where only a part of the flow was wanted.
        ladder: Folder of the ladder.
        report: Folder of the finished judge's figures.
        done: Nodes that stand at the end.
        worked: Nodes that this run worked on.
    """

    judge: Path | None
    ladder: Path | None
    report: Path | None
    done: list[str]
    worked: list[str] = field(default_factory=list)


def prepare(where: Place, flow: Flow, nodes: Sequence[Node], launch: Launch) -> None:
    """Write down what is to be done: the flow, its recipes, its nodes, the Snakefile."""
    where.make()
    storage.write_text(where.flow_file, f"# tiebreak flow run flow.yaml -o .\n\n{reading.dump(flow)}")
    recipes = {file: node.recipe for node in nodes if node.recipe for file in node.files}
    for left in {f"recipes/{path.name}" for path in where.recipes.iterdir()} - set(recipes):
        (where.root / left).unlink()
    for file, recipe in recipes.items():
        storage.write_text(where.root / file, finetune.dump(recipe))
    place.write(where, list(nodes))
    storage.write_text(where.snakefile, snakefile.text(nodes, launch.wanted, launch.setup))


def run(
    root: Path,
    flow: Flow,
    launch: Launch,
    *,
    until: Sequence[str] = (),
    report: Callable[[Event], None] = lambda _: None,
) -> Outcome:
    """Work through a flow; called again, it goes on where it was.

    Args:
        root: The flow's folder; made where it is not there.
        flow: What to do.
        launch: Where the jobs run.
        until: Nodes or kinds of stages to reach; all without any.
        report: Told of every event of a node, as it happens.

    Raises:
        UsageError: Another run works in this folder, or a node is not in the flow.
        MissingExtraError: Snakemake is not installed.
        StoppedError: The run was asked to stop.
        TiebreakError: A node failed; of the kind that its command ended with.
    """
    if find_spec("snakemake") is None:
        raise MissingExtraError("snakemake", "flow", "running a flow")
    where, nodes = Place(root), graph.graph(flow)
    targets = _targets(nodes, until)
    where.make()
    name = uuid.uuid4().hex
    held = guard.claim(where.lock, name)
    if held is None:
        raise UsageError(
            f"another tiebreak flow run works in {root}", expected="one at a time", mend="tiebreak flow status"
        )
    with held:
        prepare(where, flow, nodes, launch)
        settling.settle(where, nodes)
        follower = Follower(where, nodes, report)
        code, asked = _snakemake(where, flow, launch, targets, name, held, follower)
        stands = settling.standing(where, nodes)
        if asked:
            raise StoppedError(f"{root}: the flow was stopped", mend="the same command goes on")
        if code != 0:
            raise _failure(where, nodes, follower)
        return _collect(where, flow, nodes, list(stands), follower)


def check_files(nodes: Sequence[Node]) -> None:
    """Look for all files of the user before any work is done.

    Raises:
        UsageError: Some are not there; all are named.
    """
    lost = [file for node in nodes for file in node.files if os.path.isabs(file) and not Path(file).is_file()]
    if lost:
        raise UsageError(
            f"{', '.join(lost)}: no such file", expected="the votes and pairs that the flow names",
            mend="--data VOTES, --pairs PAIRS, or data.votes=[FILE] data.pairs=[FILE]",
        )  # fmt: skip


class Follower:
    """Reads events as the jobs write them; those from before it began are skipped."""

    def __init__(self, where: Place, nodes: Sequence[Node], report: Callable[[Event], None]) -> None:
        self._where = where
        self._report = report
        self._seen = {node.name: len(events.read(where, node.name)) for node in nodes}
        self.last: dict[str, Event] = {}
        self.worked: list[str] = []

    def look(self) -> None:
        """Report what is new."""
        fresh = []
        for name, seen in self._seen.items():
            found = events.read(self._where, name, seen)
            self._seen[name] += len(found)
            fresh += found
        for event in sorted(fresh, key=lambda event: event.time):
            self.last[event.node] = event
            if event.kind == events.DONE:
                self.worked.append(event.node)
            self._report(event)


def _targets(nodes: Sequence[Node], until: Sequence[str]) -> list[str]:
    found = []
    for word in until:
        named = [node.name for node in nodes if word in {node.name, node.stage}]
        if not named:
            stages = ", ".join(dict.fromkeys(node.stage for node in nodes))
            raise UsageError(f"--until {word}: no such node or stage", expected=f"a node, or one of {stages}")
        found += named
    return found


def _snakemake(
    where: Place, flow: Flow, launch: Launch, targets: list[str], name: str, held: IO[str], follower: Follower
) -> tuple[int, bool]:
    """Its exit code, and whether a stop was asked for."""
    line = [
        sys.executable, "-m", "snakemake", *(f"done/{target}" for target in targets), "--snakefile", "Snakefile",
        # Ours is the lock, and content decides: dates only order what is done in this very run.
        "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "--keep-going", "--retries", str(flow.retries),
        "--scheduler", "greedy", "--nocolor", "--profile", "none", "--workflow-profile", "none",
        "--runtime-source-cache-path", SOURCES, *launch.arguments,
    ]  # fmt: skip
    # Snakemake keeps what it once read under its name, and would not see that the Snakefile is another.
    shutil.rmtree(where.root / SOURCES, ignore_errors=True)
    environment = {**os.environ, **launch.environment}
    environment.pop(guard.RUN, None)
    if launch.local:
        environment[guard.RUN] = name
    with (where.root / "logs" / "snakemake.log").open("ab") as log:
        process = subprocess.Popen(
            line, cwd=where.root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            preexec_fn=guard.dying_with_parent(signal.SIGKILL),
        )  # fmt: skip
        with _stopping(process, held, launch) as asked:
            while process.poll() is None:
                follower.look()
                time.sleep(PERIOD)
        if launch.local:
            _wait_for_jobs(where, held)
        follower.look()
        return process.returncode, bool(asked)


@contextmanager
def _stopping(process: subprocess.Popen[bytes], held: IO[str], launch: Launch) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C end the run in good order: jobs save their work. A second one ends it at once."""
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        guard.name(held, "")
        if len(asked) > 1:
            process.kill()
        else:
            # Of a cluster Snakemake recalls its jobs on SIGINT; ours stop because the lock names no run any more.
            process.send_signal(signal.SIGTERM if launch.local else signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_jobs(where: Place, held: IO[str]) -> None:
    """Jobs that are left without Snakemake stop by themselves; the folder is let go of when they have."""
    guard.name(held, "")
    until = time.monotonic() + 2 * guard.PATIENCE
    while time.monotonic() < until and any(locking.is_held(path) for path in where.lock.parent.glob("node-*")):
        time.sleep(PERIOD)


def _failure(where: Place, nodes: Sequence[Node], follower: Follower) -> TiebreakError:
    """The error that names what failed, shows the end of its log, and says how to go on."""
    failed = {name: event for name, event in follower.last.items() if event.kind in {events.FAILED, events.STOPPED}}
    broken = [e for e in follower.last.values() if e.kind in {events.STARTED, events.RESUMED}]
    failed |= {event.node: event for event in broken}
    go_on = f"when that is mended, the same command goes on: tiebreak flow run ... -o {where.root}"
    if not failed:
        log = where.root / "logs" / "snakemake.log"
        return TiebreakError(f"Snakemake failed:\n{tail(log)}\n({log})", mend=go_on)
    first = min(failed.values(), key=lambda event: event.time)
    waiting = sum(first.node in graph.ancestors(nodes, node.name) for node in nodes)
    how = f"with exit code {first.code}" if first.code else "killed; its memory may not have been enough"
    others = (
        f"; {len(failed) - 1} more failed: {', '.join(sorted(set(failed) - {first.node}))}" if len(failed) > 1 else ""
    )
    log = where.log(first.node)
    kind = _ERRORS.get(first.code, TiebreakError)
    return kind(
        f"{first.node} ended {how}, and {waiting} nodes wait for it{others}. The end of {log}:\n{tail(log)}\n",
        mend=go_on,
    )


def tail(log: Path, lines: int = TAIL) -> str:
    """The last lines of a log, indented."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 64 * 1024))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return "  (there is no log)"
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines()[-lines:])


def _collect(where: Place, flow: Flow, nodes: Sequence[Node], stands: list[str], follower: Follower) -> Outcome:
    """Put the results where they are looked for. Files are linked, not copied, where the disk allows."""
    if len(stands) < len(nodes):
        return Outcome(None, None, None, stands, follower.worked)
    results = {"judge": graph.finished(flow), "ladder": "stages/ladder/ladder", "report": "stages/report/report"}
    for name, source in results.items():
        with storage.replacing(where.root / name) as aside:
            shutil.copytree(where.root / source, aside, copy_function=_linked)
    judge, ladder, report = (where.root / name for name in results)
    return Outcome(judge, ladder, report, stands, follower.worked)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
