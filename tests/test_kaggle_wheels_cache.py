"""The cache of wheels: where pip works, and what is left there when it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kaggle_wheels import only, wheel
from tiebreak.errors import ResourceError
from tiebreak.kaggle.wheels import cache

HOLDS = (
    "from tiebreak.kaggle.wheels import cache\nwith cache.room() as room:\n    print(room, flush=True)\n    input()\n"
)
RESOLVES = """
from tiebreak.cli import stopping
from tiebreak.kaggle.wheels import resolving
from tiebreak.kaggle.wheels.target import Target
with stopping.stoppable():
    resolving.resolve(["large==1.0"], Target())
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "wheels"


@pytest.fixture
def held(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a room, and the room."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        yield other, Path(other.stdout.readline().strip())
        other.kill()


def test_a_room_is_empty_and_gone_afterwards(place: Path) -> None:
    with cache.room() as room:
        assert [path.name for path in room.iterdir()] == ["lock"]
        (room / "half a wheel").write_bytes(b"PK")
    assert list(place.iterdir()) == []


def test_a_room_is_gone_after_an_error(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt), cache.room():
        raise KeyboardInterrupt
    assert list(place.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(held: tuple[subprocess.Popen[str], Path]) -> None:
    other, left = held
    (left / "torch.whl").write_bytes(b"PK")
    other.kill()
    other.wait()
    assert left.is_dir()
    with cache.room() as room:
        assert list(room.parent.iterdir()) == [room]


def test_a_run_beside_it_keeps_its_room(held: tuple[subprocess.Popen[str], Path]) -> None:
    with cache.room() as room:
        assert sorted(room.parent.iterdir()) == sorted([room, held[1]])


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ResourceError, match="TIEBREAK_CACHE=FOLDER"), cache.room():
        pass


class Stalled(BaseHTTPRequestHandler):
    """An index that sends half a wheel, and then nothing more."""

    def do_GET(self) -> None:
        site: Site = self.server  # type: ignore[assignment]
        listing = f'<a href="/{site.wheel.name}">{site.wheel.name}</a>'.encode()
        body = site.wheel.read_bytes() if self.path.endswith(".whl") else listing
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.endswith(".whl"):
            self.wfile.write(body[: len(body) // 2])
            site.sent.set()
            site.over.wait(60)
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, file: Path) -> None:
        super().__init__(("127.0.0.1", 0), Stalled)
        self.wheel, self.sent, self.over = file, threading.Event(), threading.Event()


@pytest.fixture
def stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[Site]:
    only(tmp_path / "nothing", monkeypatch, place.parent)
    monkeypatch.delenv("PIP_NO_INDEX")
    with Site(wheel(tmp_path / "site", "large", content="#" * 2**20)) as site:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{site.server_port}/")
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site
        site.over.set()
        site.shutdown()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_killed_in_the_middle_of_a_wheel_nothing_stays(number: int, stalled: Site, place: Path, tmp_path: Path) -> None:
    """pip keeps what it has fetched when it is killed: 44 GB were found in a folder for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", RESOLVES], env={**os.environ, "TMPDIR": str(temporary)}, start_new_session=True
    ) as run:
        assert stalled.sent.wait(60)
        run.send_signal(number)
        code = run.wait(30)
    assert code == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT, signal.SIGKILL: -signal.SIGKILL}[number]
    assert list(temporary.iterdir()) == []
    if number == signal.SIGKILL:
        with cache.room() as room:
            assert list(room.parent.iterdir()) == [room]
    shutil.rmtree(tmp_path / "site")
    assert list(place.iterdir()) == []
