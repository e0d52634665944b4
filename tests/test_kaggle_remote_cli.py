"""`tiebreak kaggle push`, `pull` and `status` as a user runs them: the official client is a program of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kaggle_remote
import kaggle_server
from kaggle_remote import COMPETITION, KERNEL, WHEELS, Desk, cli
from kaggle_server import KEY, SUBMISSION, TOKEN, Kaggle, stall
from tiebreak.cli import run
from tiebreak.kaggle.layout import Layout


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with kaggle_server.Running() as server:
        yield server


@pytest.fixture
def pack(tmp_path: Path) -> Layout:
    made = kaggle_remote.make_pack(tmp_path / "out", judge=True)
    kaggle_remote.record_pack(made, judge=True)
    return made


@pytest.mark.slow
def test_push_status_and_pull_from_end_to_end(kaggle: Kaggle, pack: Layout, tmp_path: Path) -> None:
    kaggle.runs = ["RUNNING", "COMPLETE"]
    kaggle.outputs = {"submission.csv": SUBMISSION, "tiebreak.json": b'{"rows": 2, "rows_otherwise": 1}'}
    kaggle.log = json.dumps([{"stream_name": "stdout", "time": 3.25, "data": "two rows\n"}])
    pushed = cli(kaggle, tmp_path, "push", pack.root, "--submit", "a first one", "--every", "0", "--json")
    assert pushed.returncode == 0, pushed.stderr
    document = json.loads(pushed.stdout)
    assert [(one["name"], one["action"], one["version"]) for one in document["done"]] == [
        ("wheels", "create", 1), ("model", "create", 0), ("judge", "create", 1), ("kernel", "create", 1),
    ]  # fmt: skip
    assert document["run"] == "complete"
    assert document["submitted"]["message"] == "a first one"
    assert "upload wheels: 1 MB" in pushed.stderr
    assert "Successfully submitted" in pushed.stderr

    status = cli(kaggle, tmp_path, "status", pack.root)
    assert status.returncode == 0, status.stderr
    assert "1.04321" in status.stdout
    assert WHEELS in status.stdout

    pulled = cli(kaggle, tmp_path, "pull", pack.root, "-o", tmp_path / "outputs")
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "outputs" / "submission.csv").read_bytes() == SUBMISSION
    assert (tmp_path / "outputs" / "log.txt").read_text() == "      3.2 s  two rows\n"
    assert "submission: 2 rows, held against its form" in pulled.stderr
    assert "1 rows were judged by the cheaper judge" in pulled.stderr
    for text in (*(done.stdout + done.stderr for done in (pushed, status, pulled)), pack.pushed.read_text()):
        assert KEY not in text


def test_the_embedded_judge_is_pushed(kaggle: Kaggle, tmp_path: Path) -> None:
    pack = kaggle_remote.make_pack(tmp_path / "out")
    kaggle_remote.record_pack(pack)
    pushed = cli(kaggle, tmp_path, "push", pack.root)
    assert pushed.returncode == 0, pushed.stderr
    assert kaggle.names() == ["CreateDataset", "SaveKernel"]
    assert [word in pushed.stdout for word in (WHEELS, KERNEL, "made")] == [True] * 3
    assert KEY not in pushed.stdout + pushed.stderr


@pytest.mark.slow
def test_a_token_signs_in_too(kaggle: Kaggle, pack: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "access_token").write_text(TOKEN)
    done = cli(kaggle, tmp_path / "home", "push", pack.root, "--only", "wheels", signed_in=False)
    assert done.returncode == 0, done.stderr
    assert kaggle.datasets.keys() == {WHEELS}
    assert TOKEN not in done.stdout + done.stderr


def test_the_dry_run_prints_the_very_calls_of_a_push(
    kaggle: Kaggle, pack: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli(kaggle, tmp_path, "push", pack.root, "--dry-run", "--submit", "it's one", signed_in=False)
    assert done.returncode == 0, done.stderr
    assert kaggle.requests == []
    assert not pack.pushed.exists()
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    said = [tuple(shlex.split(line)[1:]) for line in lines]
    kaggle_remote.sign_in(kaggle, tmp_path, monkeypatch)
    desk = Desk()
    desk.push(pack, submit="it's one")
    # Beside these: who is signed in, whether the notebook is there, and looks that are repeated.
    made = [call for call in desk.calls if {"create", "push", "submit"} & set(call)]
    assert [call for call in said if {"create", "push", "submit"} & set(call)] == made
    there = {call[:3] for call in desk.calls}
    assert {call[:3] for call in said} <= there


def test_a_dry_run_after_a_push_tells_what_changed(
    kaggle: Kaggle, pack: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle_remote.sign_in(kaggle, tmp_path, monkeypatch)
    Desk().push(pack)
    assert run(["kaggle", "push", str(pack.root), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines if line.startswith("#")] == ["nothing (as pushed)"] * 4
    (pack.wheels / "wheelhouse.json").write_text('{"format": 2}')
    kaggle_remote.record_pack(pack, judge=True, notes="more wheels")
    assert run(["kaggle", "push", str(pack.root), "--dry-run", "--json"]) == 0
    steps = {step["name"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    assert {name: step["decision"]["action"] for name, step in steps.items()} == {
        "wheels": "version", "model": "nothing", "judge": "nothing", "kernel": "version",
    }  # fmt: skip
    assert ["kaggle", "datasets", "version", "-p", str(pack.wheels), "-m", "more wheels"] in steps["wheels"]["calls"]


@pytest.mark.slow
def test_killed_with_an_upload_at_work_the_next_push_waits_for_it(kaggle: Kaggle, pack: Layout, tmp_path: Path) -> None:
    """The client outlives a tiebreak that is killed hard, and makes the dataset all the same."""
    kaggle.faults["CreateDataset"] = [stall(4)]
    command = [sys.executable, "-m", "tiebreak", "kaggle", "push", str(pack.root)]
    environment = kaggle_remote.environment(kaggle, tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while "CreateDataset" not in kaggle.names():
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
    second = cli(kaggle, tmp_path, "push", pack.root)
    assert second.returncode == 2
    assert "another push of" in second.stderr
    while WHEELS not in kaggle.datasets:
        time.sleep(0.1)
    time.sleep(0.5)
    third = cli(kaggle, tmp_path, "push", pack.root, "--json")
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout)["done"][0]["action"] == "taken over"
    assert kaggle.names().count("CreateDataset") == 1
    assert len(kaggle.uploaded) == 5


@pytest.mark.slow
def test_ctrl_c_leaves_no_client_behind(kaggle: Kaggle, pack: Layout, tmp_path: Path) -> None:
    kaggle.faults["CreateDataset"] = [stall(60)]
    command = [sys.executable, "-m", "tiebreak", "kaggle", "push", str(pack.root)]
    environment = kaggle_remote.environment(kaggle, tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as first:
        while "CreateDataset" not in kaggle.names():
            assert first.poll() is None
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGINT)
        assert first.wait(30) == 130
    assert cli(kaggle, tmp_path, "push", pack.root, "--only", "wheels").returncode == 0
    assert kaggle.names().count("CreateDataset") == 2
    assert len(kaggle.datasets[WHEELS].versions) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["push", "PACK", "--only", "notebook"], 2, "one of wheels, model, kernel"),
        (["push", "PACK", "--only", "wheels", "--wait"], 2, "runs no notebook"),
        (["push", "PACK", "--submit", " "], 2, "without a message"),
        (["push", "PACK", "--notes", "-x"], 2, "look like an option"),
        (["push", "nowhere"], 3, "nowhere"),
        (["pull", "nowhere", "-o", "x"], 2, "no pack and no notebook"),
        (["pull", "someone/some-notebook", "-o", "x", "--model"], 2, "are of a pack"),
        (["pull", "PACK", "-o", "x", "--wheels"], 3, "was not pushed"),
        (["pull", "someone/never-pushed", "-o", "x"], 3, "no run of someone/never-pushed"),
        (["status", "nowhere"], 3, "expected a pack"),
    ],
)
def test_what_cannot_be_done_is_told(
    arguments: list[str],
    code: int,
    words: str,
    kaggle: Kaggle,
    pack: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kaggle_remote.sign_in(kaggle, tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert run(["kaggle", *(str(pack.root) if word == "PACK" else word for word in arguments)]) == code
    assert words in capsys.readouterr().err
    assert kaggle.names() == []


def test_a_pack_that_was_altered_or_breaks_rules_is_not_pushed(
    kaggle: Kaggle, pack: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle_remote.sign_in(kaggle, tmp_path, monkeypatch)
    (pack.wheels / "wheelhouse.json").write_text("{}")
    assert run(["kaggle", "push", str(pack.root)]) == 3
    assert "wheels/wheelhouse.json was altered" in capsys.readouterr().err
    path = pack.kernel / "kernel-metadata.json"
    path.write_text(path.read_text().replace('"enable_internet": false', '"enabel_internet": false'))
    assert run(["kaggle", "push", str(pack.root)]) == 3
    assert "enabel_internet" in capsys.readouterr().err
    assert kaggle.requests == []


@pytest.mark.parametrize("verb", ["push", "pull", "status"])
def test_nobody_signed_in(
    verb: str,
    kaggle: Kaggle,
    pack: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kaggle_remote.sign_in(kaggle, tmp_path, monkeypatch)
    monkeypatch.delenv("KAGGLE_KEY")
    more = ["-o", str(tmp_path / "x")] if verb == "pull" else []
    assert run(["kaggle", verb, str(pack.root), *more]) == 2
    said = capsys.readouterr().err
    for way in ("KAGGLE_API_TOKEN", "~/.kaggle", "kaggle auth login"):
        assert way in said
    assert kaggle.requests == []


def test_dry_runs_of_pull_and_status(
    kaggle: Kaggle, pack: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kaggle", "pull", str(pack.root), "-o", "outputs", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"kaggle kernels status {KERNEL}",
        f"kaggle kernels output {KERNEL} -p outputs --force",
    ]
    assert run(["kaggle", "status", str(pack.root), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calls"][-2] == [
        "kaggle", "competitions", "submissions", COMPETITION, "--format", "json",
    ]  # fmt: skip
    assert kaggle.requests == []
