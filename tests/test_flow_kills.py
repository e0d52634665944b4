"""A whole flow, killed at twenty moments and gone on with: the judge is the same to the byte, nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from finetune_rows import votes
from tiebreak import locking
from tiebreak.flow import events, place, running
from tiebreak.flow.place import Place

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills need /proc")]

KILLS = 20
FLOW = """
name: small
data: {{votes: [votes.parquet], folds: 2, test: 0.2, validation: 0.15}}
teachers: [{{name: features, recipe: features, changes: {{folds: 2}}}}]
combine: {{calibrate: none, force: true}}
student:
  recipe: smollm2-135m-lora
  changes:
    base: {{name: {base}, shape: null}}
    precision: fp32
    templates: [{{name: plain, max_length: 64}}]
    batches: {{rows: 4, tokens: 512}}
    max_steps: 6
    evaluation: {{every: 3, save_every: 1}}
compress: {{method: null}}
predict: {{teachers: false}}
retries: 0
"""


def command(folder: Path, name: str) -> list[str]:
    return [sys.executable, "-m", "tiebreak", "flow", "run", "small.yaml", "-o", name, "--cores", "2"]


def run(folder: Path, name: str) -> None:
    found = subprocess.run(command(folder, name), cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    assert found.returncode == 0, found.stderr


def finished(where: Place) -> int:
    """Nodes that are done."""
    return len(list((where.root / "done").glob("*"))) if where.root.is_dir() else 0


def running_jobs(where: Place) -> list[str]:
    return [path.name for path in where.lock.parent.glob("node-*") if locking.is_held(path)]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kill(folder: Path, name: str, target: int, delay: float, *, alone: bool) -> bool:
    """Start, wait until so many nodes are done and another runs, and a little longer; kill the parent, or its group."""
    where = Place(folder / name)
    with subprocess.Popen(
        command(folder, name), cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + 300
        waiting = True
        while waiting and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            waiting = finished(where) < target or not running_jobs(where)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            if alone:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode == 0:
        return False
    assert process.returncode == -signal.SIGKILL
    until = time.monotonic() + 60
    while running_jobs(where) and time.monotonic() < until:  # orphans see that their run has ended
        time.sleep(0.05)
    assert not running_jobs(where)
    return True


def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    pytest.importorskip("snakemake")
    votes(90).drop("group").write_parquet(tmp_path / "votes.parquet")
    base = tiny.save(tmp_path / "base", "llama")
    (tmp_path / "small.yaml").write_text(FLOW.format(base=base))
    run(tmp_path, "whole")
    nodes = place.read(Place(tmp_path / "whole"))

    rng = random.Random(4)
    killed = 0
    for turn in range(KILLS):
        target = turn * len(nodes) // KILLS
        killed += kill(tmp_path, "broken", target, rng.uniform(0, 3), alone=turn % 2 == 0)
    run(tmp_path, "broken")
    assert killed >= KILLS - 2, "the flow was over before it was killed"

    where = Place(tmp_path / "broken")
    for node in nodes:
        kinds = [event.kind for event in events.read(where, node.name)]
        assert kinds.count(events.DONE) <= 1, (node.name, kinds)
        after = kinds[kinds.index(events.DONE) + 1 :] if events.DONE in kinds else []
        assert set(after) <= {events.UNCHANGED}, (node.name, kinds)
    assert any(events.RESUMED in [event.kind for event in events.read(where, node.name)] for node in nodes)
    for name in ("judge", "ladder"):
        assert digests(where.root / name) == digests(tmp_path / "whole" / name)
    ladder = json.loads((where.root / "ladder" / "ladder.json").read_text())
    names = [rung["name"] for rung in ladder["rungs"]]
    assert names[0] == "prior"
    assert names[-1] == "both orders"
    assert not list((where.root / "unfinished").iterdir())
    assert running.tail(where.log("student-fold-0"))
