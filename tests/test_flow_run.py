"""Jobs of a flow and their manifests, and a flow run by Snakemake: what stands is not done again, whatever happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import tiebreak
from tiebreak import cli, locking, samples, storage
from tiebreak.errors import DataError, UsageError
from tiebreak.flow import events, guard, leases, manifest, place, settling, stages, status
from tiebreak.flow.node import Node
from tiebreak.flow.place import Place
from tiebreak.flow.schema import Resources

VOTES = "votes.parquet"


def shell(name: str, script: str, *inputs: str, files: tuple[str, ...] = ()) -> Node:
    """A node whose command is a script; it writes `OUT`."""
    read = [f"stages/{other}/{VOTES}" for other in inputs]
    return Node(name, "data", ("sh", *read, f"stages/{name}/{VOTES}"), inputs, (VOTES,), files=files, about=script)


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A flow of three commands: a copy of a file, its lines without comments, its first line."""
    mine = tmp_path / "mine"
    mine.write_text("a\nb\n")
    found = Place(tmp_path / "chain")
    found.make()
    nodes = [
        shell("import", f"cat {mine} >$OUT; echo imported", files=(str(mine),)),
        shell("clean", f"grep -v '#' stages/import/{VOTES} >$OUT", "import"),
        shell("first", f"head -n 1 stages/clean/{VOTES} >$OUT", "clean"),
    ]
    place.write(found, nodes)
    monkeypatch.setattr(
        stages, "program", lambda node: ["sh", "-c", f"OUT=unfinished/{node.name}/{VOTES}; {node.about}"]
    )
    return found


def work(where: Place) -> dict[str, str]:
    """Do every node in order."""
    return {node.name: stages.step(where.root, node.name).kind for node in place.read(where)}


def kinds(where: Place, name: str) -> list[str]:
    return [event.kind for event in events.read(where, name)]


def test_a_job_is_done_once_and_its_manifest_says_of_what(where: Place) -> None:
    assert work(where) == dict.fromkeys(("import", "clean", "first"), "done")
    assert work(where) == dict.fromkeys(("import", "clean", "first"), "unchanged")
    found = manifest.of(where, "clean")
    assert found is not None
    file = where.stage("clean") / VOTES
    assert found.written[VOTES].sha256 == storage.sha256(file)
    assert list(found.read) == [f"stages/import/{VOTES}"]
    assert found.versions["tiebreak"]
    assert not list((where.root / "unfinished").iterdir())
    assert {path.name for path in (where.root / "done").iterdir()} == {"import", "clean", "first"}
    assert "imported" in where.log("import").read_text()


def test_dates_decide_nothing_and_contents_everything(where: Place) -> None:
    work(where)
    votes = Path(place.read(where)[0].files[0])
    os.utime(votes, (1, 1))
    os.utime(where.stage("clean") / VOTES, (1, 1))
    assert work(where) == dict.fromkeys(("import", "clean", "first"), "unchanged")
    # A comment changes the copy, and what is without comments not at all: nothing ripples further.
    votes.write_text("a\nb\n# new\n")
    reasons = settling.reasons(where, place.read(where), settling.standing(where, place.read(where)))
    assert reasons == {"import": f"changed: {votes}", "clean": "after import", "first": "after clean"}
    assert work(where) == {"import": "done", "clean": "done", "first": "unchanged"}


@pytest.mark.parametrize("harm", ["lost", "changed", "grown"])
def test_work_that_somebody_touched_is_done_again(where: Place, harm: str) -> None:
    work(where)
    file = where.stage("clean") / VOTES
    before = storage.sha256(file)
    text = bytearray(file.read_bytes())
    file.unlink()
    if harm == "changed":
        text[len(text) // 2] ^= 1
    if harm != "lost":
        file.write_bytes(bytes(text) + (b"x" if harm == "grown" else b""))
    assert list(settling.settle(where, place.read(where))) == ["import"]
    assert not where.done("clean").exists()
    assert work(where) == {"import": "unchanged", "clean": "done", "first": "unchanged"}
    assert storage.sha256(file) == before


def test_a_job_that_ended_between_its_last_moves_is_not_done_again(where: Place) -> None:
    work(where)
    shutil.move(where.stage("clean"), where.aside("clean"))
    where.done("clean").unlink()
    log = where.log("clean").read_text()
    assert stages.step(where.root, "clean").kind == "done"
    assert where.log("clean").read_text() == log
    assert stages.step(where.root, "first").kind == "unchanged"


def test_unfinished_work_goes_on_only_where_it_is_of_the_same_key(where: Place) -> None:
    nodes = place.read(where)
    resumable = Node(**{**vars(nodes[0]), "resumable": True})
    place.write(where, [resumable, *nodes[1:]])
    key = manifest.key(resumable, manifest.reads(where, resumable))
    for written, expected in ((key, "resumed"), ("other", "started")):
        aside = where.aside("import")
        aside.mkdir()
        (aside / "step.json").write_text(json.dumps({"key": written}))
        (aside / ".votes.parquet.123.partial").write_text("torn")
        (aside / "kept").write_text("")
        assert stages.step(where.root, "import").kind == "done"
        assert kinds(where, "import")[-2:] == [expected, "done"]
        assert (where.stage("import") / "kept").exists() == (expected == "resumed")
        assert not list(where.stage("import").glob(".*"))
        shutil.rmtree(where.stage("import"))


def test_a_failing_command_leaves_nothing_and_is_not_tried_again_in_the_same_run(
    where: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(where, [shell("import", "echo half >$OUT; exit 3"), *place.read(where)[1:]])
    monkeypatch.setenv(guard.RUN, "this")
    held = guard.claim(where.lock, "this")
    assert held is not None
    with held:
        for _ in range(2):
            ended = stages.step(where.root, "import")
            assert (ended.kind, ended.code) == ("failed", 3)
    assert kinds(where, "import") == ["started", "failed"]
    assert not where.stage("import").exists()
    states = {state.node: state for state in status.status(where, place.read(where))}
    assert (states["import"].state, states["import"].said) == ("failed", "exit code 3")
    assert states["clean"].state == "waiting"
    with pytest.raises(DataError, match="clean reads stages/import"):
        stages.step(where.root, "clean")


def test_a_command_that_forgets_an_output_is_a_failure(where: Place) -> None:
    first = place.read(where)[0]
    place.write(where, [Node(**{**vars(first), "outputs": (VOTES, "report.json")})])
    with pytest.raises(DataError, match=r"import ended well without writing report\.json"):
        stages.step(where.root, "import")
    assert not where.stage("import").exists()


def test_a_node_that_is_not_there_is_a_usage_error(where: Place, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no node 'nothing'"):
        stages.step(where.root, "nothing")
    with pytest.raises(UsageError, match="is no folder of a flow"):
        stages.step(tmp_path, "import")


@pytest.fixture
def endless(where: Place) -> Place:
    """A command that waits for ever: it reads a pipe that nobody writes to."""
    pipe = where.root / "pipe.csv"
    os.mkfifo(pipe)
    place.write(
        where, [Node("import", "data", ("data", "import", "pipe.csv", "-o", f"stages/import/{VOTES}"), (), (VOTES,))]
    )
    return where


def test_a_gpu_is_lent_to_one_job_at_a_time(where: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.VISIBLE, "3,5,7")
    with leases.leased(where, 2) as first, leases.leased(where, 1) as second:
        assert (first, second) == (["3", "5"], ["7"])
    with leases.leased(where, 3) as all_of_them, leases.leased(where, 0) as none:
        assert (all_of_them, none) == (["3", "5", "7"], [])
    monkeypatch.setenv(guard.RUN, "this")
    held = guard.claim(where.lock, "this")
    first_node = place.read(where)[0]
    place.write(
        where,
        [Node(**{**vars(first_node), "resources": Resources(gpus=1), "about": "echo $CUDA_VISIBLE_DEVICES >$OUT"})],
    )
    assert held is not None
    with held, leases.leased(where, 1):
        assert stages.step(where.root, "import").kind == "done"
    assert (where.stage("import") / VOTES).read_text() == "5\n"


def begin(where: Place, **environment: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "tiebreak", "flow", "step", str(where.root), "import"]
    return subprocess.Popen(line, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def commands(where: Place) -> list[int]:
    """Processes whose folder is that of the flow: the commands of its jobs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").resolve() == where.root.resolve() and "import" in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own way is Linux's")
def test_a_command_dies_with_its_job_and_a_job_with_its_run(endless: Place) -> None:
    job = begin(endless)
    until(lambda: bool(commands(endless)))
    assert locking.is_held(endless.node_lock("import"))
    job.kill()
    job.wait()
    until(lambda: not commands(endless))
    assert kinds(endless, "import") == ["started"]

    held = guard.claim(endless.lock, "mine")
    assert held is not None
    with held:
        job = begin(endless, **{guard.RUN: "mine"})
        until(lambda: bool(commands(endless)))
    assert job.wait(60) == stages.STOPPED  # the lock is let go of: the run has ended
    assert not commands(endless)
    assert kinds(endless, "import")[-1] == "stopped"


def test_a_request_to_stop_is_handed_on_and_a_second_job_waits_for_the_first(endless: Place) -> None:
    job = begin(endless)
    until(lambda: bool(commands(endless)))
    second = begin(endless)
    time.sleep(1.5)
    assert len(commands(endless)) == 1
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == stages.STOPPED
    until(lambda: len(kinds(endless, "import")) == 3)
    assert kinds(endless, "import") == ["started", "stopped", "started"]
    second.terminate()
    assert second.wait(60) == stages.STOPPED


FLOW = """
name: small
data: {votes: [mine.parquet], folds: 2, test: 0.2}
teachers: [{name: features, recipe: features}]
student: {recipe: smollm2-135m-lora}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    samples.votes().write_parquet(tmp_path / "mine.parquet")
    (tmp_path / "small.yaml").write_text(FLOW)
    return tmp_path


def worked(folder: Path) -> dict[str, list[str]]:
    return {node.name: kinds(Place(folder), node.name) for node in place.read(Place(folder))}


def test_a_flow_by_snakemake_goes_on_and_does_nothing_twice(mine: Path) -> None:
    pytest.importorskip("snakemake")
    run = ("flow", "run", "small.yaml", "-o", "chain", "--cores", "2")
    first = tiebreak(*run, "--until", "data-import", cwd=mine)
    assert first.returncode == 0, first.stderr
    assert "done      data-import" in first.stderr
    # The locks of a Snakemake that was killed, and a half-done file that it would complain of, are no hindrance.
    (mine / "chain" / ".snakemake" / "locks").mkdir(exist_ok=True)
    (mine / "chain" / ".snakemake" / "locks" / "0.output.lock").write_text("done/data-split\n")
    (mine / "chain" / "done" / "data-import").unlink()
    second = tiebreak(*run, "--until", "data-unique", "resources.default.cpus=2", cwd=mine)
    assert second.returncode == 0, second.stderr
    assert "threads: 2" in (mine / "chain" / "logs" / "snakemake.log").read_text()  # it read the Snakefile anew
    found = worked(mine / "chain")
    names = ["data-import", "data-clean", "data-unique"]
    assert [found[name] for name in names] == [["started", "done"]] * 3
    shown = tiebreak("flow", "status", "chain", "--json", cwd=mine)
    states = json.loads(shown.stdout)
    assert [node["node"] for node in states["nodes"] if node["state"] == "done"] == names
    assert states["counts"]["done"] == 3
    dry = tiebreak("flow", "run", "small.yaml", "-o", "chain", "data.limit=50", "--dry-run", "--json", cwd=mine)
    why = {job["node"]: job["why"] for job in json.loads(dry.stdout)["jobs"]}
    assert (why["data-import"], why["data-clean"], why["ladder"]) == (
        "another command", "after data-import", "not done yet",
    )  # fmt: skip


def test_a_job_that_fails_is_named_with_the_end_of_its_log_and_how_to_go_on(mine: Path) -> None:
    pytest.importorskip("snakemake")
    (mine / "mine.parquet").write_text("no parquet")
    failed = tiebreak("flow", "run", "small.yaml", "-o", "chain", cwd=mine)
    assert failed.returncode == 3
    assert "data-import ended with exit code 3" in failed.stderr
    assert "mine.parquet" in failed.stderr
    assert "the same command goes on" in failed.stderr
    assert worked(mine / "chain")["data-import"] == ["started", "failed"]


def test_files_that_are_not_there_and_a_second_run_are_told_at_once(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("snakemake")
    monkeypatch.chdir(mine)
    assert cli.run(["flow", "run", "small.yaml", "data.pool=[lost.csv]", "data.test=[gone.csv]"]) == 2
    said = capsys.readouterr().err
    assert "lost.csv" in said
    assert "gone.csv" in said
    assert not (mine / "small").exists()
    where = Place(mine / "chain")
    where.make()
    held = guard.claim(where.lock, "other")
    assert held is not None
    with held:
        assert cli.run(["flow", "run", "small.yaml", "-o", "chain"]) == 2
    assert "another tiebreak flow run works in chain" in capsys.readouterr().err
    assert cli.run(["flow", "run", "small.yaml", "-o", "chain", "--until", "students"]) == 2
    assert "--until students: no such node or stage" in capsys.readouterr().err


def test_flows_that_ship_can_be_listed_shown_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["flow", "ls"]) == 0
    assert "blackpearl-tiny" in capsys.readouterr().out
    assert cli.run(["flow", "cp", "blackpearl-tiny", "own.yaml"]) == 0
    assert (tmp_path / "own.yaml").read_text().startswith("# tiebreak flow run own.yaml ")
    assert cli.run(["flow", "cp", "blackpearl-tiny", "own.yaml"]) == 2
    assert cli.run(["flow", "show", "own.yaml", "data.folds=7", "--resolved"]) == 0
    assert "folds: 7" in capsys.readouterr().out
    assert cli.run(["flow", "show", "blackpearl-tinny"]) == 2
    assert "did you mean blackpearl-tiny" in capsys.readouterr().err
