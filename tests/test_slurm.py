"""A flow on a real SLURM of one node: jobs are submitted, one is requeued, one is cancelled, and all goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

import finetune_rows
import slurm_cluster
from slurm_cluster import Cluster

pytestmark = pytest.mark.slurm

STEPS = 40
PATIENCE = 300.0
"""Seconds; Snakemake looks at a job after 1, 12, 33 and 64 seconds, and this machine may have other work."""

RECIPE = """
name: tiny
base: {{name: {base}}}
templates: [{{name: plain, max_length: 64, truncation: fair}}]
lora: {{r: 4, alpha: 8}}
precision: fp32
batches: {{rows: 8, tokens: 1024}}
optimiser: {{lr: 1e-3}}
evaluation: {{every: {steps}, save_every: 1, rows: 8}}
max_steps: {steps}
epochs: 100
"""
FLOW = """
name: tiny
data: {votes: [votes.parquet], test: 0.2, validation: 0.2, folds: 2}
teachers:
  - {name: counted, recipe: features, changes: {repeats: 1, folds: 2}}
combine: {calibrate: none, force: true}
student: {recipe: student.yaml}
average: {keep: tensors}
compress: {method: null}
predict: {teachers: false}
resources:
  default: {cpus: 1, memory: 1, hours: 0.5}
slurm: {check: 1, local: [data, audit, combine]}
retries: 0
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Cluster]:
    if why := slurm_cluster.missing():
        pytest.skip(f"no SLURM here: {why}")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip('no Snakemake here: pip install "tiebreak[flow]"')
    try:
        with slurm_cluster.cluster(cpus=2, kill_wait=20) as started:
            yield started
    except slurm_cluster.NoClusterError as error:
        pytest.skip(f"no SLURM here: {error}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("slurm")
    finetune_rows.votes(120).write_parquet(made / "votes.parquet")
    base = finetune_rows.base(made)
    (made / "student.yaml").write_text(RECIPE.format(base=base, steps=STEPS))
    (made / "flow.yaml").write_text(FLOW)
    return made


@contextmanager
def flow_run(folder: Path, node: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """`tiebreak flow run` up to the first student, as a process that is ended with the block."""
    command = [sys.executable, "-m", "tiebreak", "flow", "run", "flow.yaml", "--until", "student-fold-0"]
    environment = {**node.environment, "OMP_NUM_THREADS": "1"}
    with (folder / "said").open("wb") as said, subprocess.Popen(
        [*command, "--executor", "slurm", "-o", "work"], cwd=folder, env=environment, stderr=said
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def until(found: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for something while a process runs."""
    end = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < end, "it takes too long"
        assert process.poll() is None, "the run has ended"
        time.sleep(0.05)


def history(folder: Path) -> list[dict[str, object]]:
    """The events of the student's training, wherever it lies."""
    found = list((folder / "work").glob("*/student-fold-0/fold-0.run/**/history.jsonl"))
    lines = found[0].read_text().splitlines() if found else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps(folder: Path) -> list[int]:
    return [int(str(event["step"])) for event in history(folder) if event["event"] == "stepped"]


def training(node: Cluster) -> str:
    """The id of the job that trains the student now."""
    found = [job["id"] for job in node.jobs() if "student_fold_0" in job["comment"] and job["state"] == "RUNNING"]
    return found[0] if found else ""


def test_a_chain_is_submitted_requeued_cancelled_and_goes_on(folder: Path, node: Cluster) -> None:
    with flow_run(folder, node) as first:
        until(lambda: len(steps(folder)) >= 3, first)
        # What a preemption does: SLURM itself stops the job and queues it again.
        node.run("scontrol", "requeue", training(node))
        until(lambda: any(event.get("resumed_at") for event in history(folder)), first)
        seen = len(steps(folder))
        until(lambda: len(steps(folder)) >= seen + 3, first)
        node.run("scancel", training(node))
        assert first.wait(PATIENCE) != 0
    assert "student-fold-0" in (folder / "said").read_text()
    events = folder / "work" / "events"
    before = {path.name: path.read_text() for path in events.iterdir() if "student" not in path.name}
    assert len([name for name in before if name.startswith("teacher-")]) == 2

    with flow_run(folder, node) as second:
        assert second.wait(PATIENCE) == 0, (folder / "said").read_text()
    after = {path.name: path.read_text() for path in events.iterdir() if "student" not in path.name}
    assert {name: text.count('"started"') for name, text in after.items()} == dict.fromkeys(after, 1)

    done = steps(folder)
    assert done[-1] == STEPS
    started = [int(str(event["resumed_at"])) for event in history(folder) if event["event"] == "started"]
    assert len(started) == 3
    assert started[0] == 0 < started[1] < started[2] < STEPS
    submitted = {job["comment"] for job in node.jobs()}
    assert {"rule_teacher_counted_fold_0", "rule_label_counted", "rule_student_fold_0"} <= submitted
    assert not any("data" in comment for comment in submitted)
    assert (folder / "work" / "stages" / "student-fold-0" / "fold-0" / "judge.json").is_file()
    labels = pl.read_parquet(folder / "work" / "stages" / "label-counted" / "labels.parquet")
    assert labels.height > 0
