"""One job: run a node's command aside, and move what it wrote to its place together with a manifest.

Whatever ends a job, at whatever moment, the next one finds finished work, unfinished work of the same key that its
command goes on with, or nothing; never half of something that looks whole.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tiebreak import locking, storage
from tiebreak.errors import UsageError
from tiebreak.flow import events, guard, leases, manifest, place
from tiebreak.flow.manifest import Manifest
from tiebreak.flow.node import STAGES, Node
from tiebreak.flow.place import MANIFEST, Place

STOPPED: Final = 75
FINAL: Final = frozenset({2, 3, 4, 6})
"""Exit codes that another attempt would only repeat: a wrong command, wrong data, a missing extra, a refusing gate."""

_KEY: Final = "step.json"
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        kind: An event: done, unchanged, failed or stopped.
        code: Exit code: 0, or that of the command.
    """

    kind: str
    code: int


def step(root: Path, name: str) -> Ended:
    """Do a node's work unless it stands already. Waits while another process does it.

    Raises:
        UsageError: There is no such flow or node.
        DataError: Something that the node reads is not there.
    """
    where = Place(root)
    node = next((each for each in place.read(where) if each.name == name), None)
    if node is None:
        raise UsageError(f"no node {name!r} in {root}", expected="one of tiebreak flow status DIR")
    with _alone(where, node):
        return _step(where, node)


def mark(where: Place, found: Manifest) -> None:
    """Write the small file that says that a node is done."""
    storage.write_text(where.done(found.node), f"{found.key}\n{found.digest()}\n")


def _step(where: Place, node: Node) -> Ended:
    run = os.environ.get(guard.RUN, "")
    standing = manifest.stands(where, node)
    if standing is not None:
        mark(where, standing)
        events.tell(where, node.name, events.UNCHANGED, key=standing.key, run=run)
        return Ended(events.UNCHANGED, 0)
    read = manifest.reads(where, node)
    key = manifest.key(node, read)
    waiting = manifest.finished_aside(where, node.name)
    if waiting is not None and waiting.key == key:  # the job before ended between its last two moves
        return _publish(where, node, waiting, run)
    before = events.read(where, node.name)[-1:]
    if run and before and before[0].run == run and before[0].key == key and before[0].code in FINAL:
        return Ended(events.FAILED, before[0].code)  # Snakemake tries again; this would only fail again
    goes_on = _prepare(where, node, key)
    started = time.monotonic()
    with guard.Relay() as relay:
        events.tell(where, node.name, events.RESUMED if goes_on else events.STARTED, key=key, run=run)
        with leases.leased(where, node.gpus if run else 0) as lent:
            code = _command(where, node, relay, lent)
    seconds = time.monotonic() - started
    if code != 0:
        kind = events.STOPPED if code in {STOPPED, -signal.SIGTERM, -signal.SIGINT, 130} else events.FAILED
        code = STOPPED if kind == events.STOPPED else code if code > 0 else 128 - code
        events.tell(where, node.name, kind, key=key, run=run, seconds=seconds, code=code)
        return Ended(kind, code)
    found = manifest.make(where, node, read, seconds)
    storage.write_text(where.aside(node.name) / MANIFEST, found.model_dump_json(indent=1) + "\n")
    return _publish(where, node, found, run)


@contextmanager
def _alone(where: Place, node: Node) -> Iterator[None]:
    """Hold the node's lock. What another process is doing is waited for: then it is done, and stands."""
    held: IO[str] | None = None
    run = os.environ.get(guard.RUN, "")
    while held is None:
        held = locking.hold(where.node_lock(node.name))
        if held is None and run and not guard.is_wanted(where.lock, run):
            raise UsageError(f"{node.name}: the run that wanted it has ended", expected="tiebreak flow run")
    with held:
        yield


def _prepare(where: Place, node: Node, key: str) -> bool:
    """Make the folder to work in; whether work of the same key lies there already and goes on."""
    aside = where.aside(node.name)
    goes_on = node.resumable and _key_of(aside) == key
    if not goes_on:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        storage.write_text(aside / _KEY, json.dumps({"key": key}) + "\n")
    for left in [*aside.rglob(".*.partial"), *aside.rglob(".*.old")]:  # of writers that were killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    for name, source in node.takes.items():
        if not (aside / name).exists():
            _link(where.root / source, aside / name)
    return goes_on


def _key_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _KEY).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _link(source: Path, target: Path) -> None:
    with storage.replacing(target) as aside:
        try:
            os.link(source, aside)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, aside)


def program(node: Node) -> list[str]:
    """The command line of a node, in the flow's folder, writing aside."""
    words = [word.replace(f"{STAGES}/{node.name}/", f"unfinished/{node.name}/") for word in node.command]
    start = [sys.executable]
    if node.gpus > 1 and node.command[0] == "train":
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={node.gpus}"]
    return [*start, "-m", "tiebreak", *words]


def _command(where: Place, node: Node, relay: guard.Relay, lent: list[str]) -> int:
    """Run it; what it says goes to the log."""
    environment = {**os.environ, **{variable: str(node.threads) for variable in _THREADS}}
    environment.setdefault("PYTHONUNBUFFERED", "1")
    if lent:
        environment[leases.VISIBLE] = ",".join(lent)
    line = program(node)
    with where.log(node.name).open("ab") as log:
        log.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')}  tiebreak {' '.join(node.command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            line, cwd=where.root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            preexec_fn=guard.dying_with_parent(signal.SIGKILL),
        )  # fmt: skip
        relay.to(process)
        with guard.Watch(where.lock, process) as watch:
            code = process.wait()
        return STOPPED if watch.stopped and code else code


def _publish(where: Place, node: Node, found: Manifest, run: str) -> Ended:
    """Move finished work to its place, in two renames, and say so."""
    aside, stage = where.aside(node.name), where.stage(node.name)
    (aside / _KEY).unlink(missing_ok=True)
    old = aside.with_name(f".{node.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if stage.exists():
        stage.rename(old)
    aside.rename(stage)
    shutil.rmtree(old, ignore_errors=True)
    events.tell(where, node.name, events.DONE, key=found.key, run=run, seconds=found.seconds)
    mark(where, found)
    return Ended(events.DONE, 0)
