"""Pushing through the official client's own code to a Kaggle on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import kaggle_remote
import kaggle_server
from kaggle_remote import JUDGE, KERNEL, WHEELS
from kaggle_server import KEY, Kaggle
from tiebreak.errors import DataError, ResourceError, StoppedError, UsageError
from tiebreak.kaggle import remote
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.metadata import Kernel
from tiebreak.kaggle.remote import Done, Pace, Wishes, state
from tiebreak.listening import Listener

FAST = Wishes(pace=Pace(every=0.0, version=0.3, run=0.3))


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with kaggle_server.Running() as server:
        yield server


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def push(kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Callable[..., list[Done]]:
    """Pushes a pack, and says what was done."""
    for name, value in kaggle_remote.environment(kaggle, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.delenv("KAGGLE_CONFIG_DIR", raising=False)
    listener = Listener(said.append)

    def run(
        pack: Layout, wishes: Wishes = FAST, *, stop: Callable[[tuple[str, ...]], None] = lambda arguments: None
    ) -> list[Done]:
        with remote.session(pack, kaggle_remote.client(listener, stop), wishes, listener) as session:
            done = remote.send(session)
            if wishes.submit is not None:
                remote.wait(session)
                remote.submit(session, wishes.submit)
            return done

    return run


def actions(done: list[Done]) -> dict[str, tuple[str, int]]:
    return {one.name: (one.action, one.version) for one in done}


def test_a_first_push_makes_everything_in_order(
    kaggle: Kaggle, push: Callable[..., list[Done]], tmp_path: Path
) -> None:
    pack = kaggle_remote.make_pack(tmp_path / "out", judge=True)
    done = push(pack)
    assert actions(done) == {
        "wheels": ("create", 1), "model": ("create", 0), "judge": ("create", 1), "kernel": ("create", 1),
    }  # fmt: skip
    assert kaggle.names() == ["CreateDataset", "CreateModel", "CreateModelInstance", "SaveKernel"]
    for sent, folder, metadata in (
        (kaggle.datasets[WHEELS].versions[0], pack.wheels, "dataset-metadata.json"),
        (kaggle.instances[JUDGE].versions[0], pack.model / "judge", "model-instance-metadata.json"),
    ):
        assert sent == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != metadata}
    kernel = kaggle.kernels[KERNEL][0]
    assert kernel["enableInternet"] is False
    assert kernel["modelDataSources"] == [f"{JUDGE}/1"]
    assert kaggle.datasets[WHEELS].body["isPrivate"] is True
    written = json.loads(pack.pushed.read_text())
    assert {name: part["version"] for name, part in written["parts"].items()} == {
        "wheels": 1, "model": 0, "judge": 1, "kernel": 1,
    }  # fmt: skip
    assert written["begun"] == {}


def test_nothing_changed_nothing_is_sent(kaggle: Kaggle, push: Callable[..., list[Done]], tmp_path: Path) -> None:
    pack = kaggle_remote.make_pack(tmp_path / "out", judge=True)
    push(pack)
    before, written = len(kaggle.names()), pack.pushed.read_bytes()
    assert {action for action, _ in actions(push(pack)).values()} == {"nothing"}
    assert len(kaggle.names()) == before
    assert pack.pushed.read_bytes() == written


def test_what_changed_is_sent_and_the_notebook_names_the_new_version(
    kaggle: Kaggle, push: Callable[..., list[Done]], tmp_path: Path
) -> None:
    pack = kaggle_remote.make_pack(tmp_path / "out", judge=True)
    push(pack)
    (pack.model / "judge" / "adapter.safetensors").write_bytes(bytes(3001))
    assert actions(push(pack)) == {
        "wheels": ("nothing", 1), "model": ("nothing", 0), "judge": ("version", 2), "kernel": ("version", 2),
    }  # fmt: skip
    assert kaggle.names()[4:] == ["CreateModelInstanceVersion", "SaveKernel"]
    assert kaggle.kernels[KERNEL][1]["modelDataSources"] == [f"{JUDGE}/2"]
    assert Kernel.read(pack.kernel).model_sources == [f"{JUDGE}/2"]
    notes = kaggle.requests[[name for name, _ in kaggle.requests].index("CreateModelInstanceVersion")][1]["body"]
    assert notes["versionNotes"].startswith("tiebreak ")
