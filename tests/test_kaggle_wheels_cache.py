"""The cache of wheels: where pip works, and what is left there when it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kaggle_wheels import only, wheel
from tiebreak.errors import ResourceError
from tiebreak.kaggle.wheels import cache, resolving
from tiebreak.kaggle.wheels.target import Target
from tiebreak.storage import sha256

HOLDS = (
    "from tiebreak.kaggle.wheels import cache\nwith cache.room() as room:\n    print(room, flush=True)\n    input()\n"
)
RESOLVES = """
from tiebreak.stopping import stoppable
from tiebreak.kaggle.wheels import resolving
from tiebreak.kaggle.wheels.target import Target
with stoppable():
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


class Listed(BaseHTTPRequestHandler):
    """An index of one wheel, which does not know of HEAD."""

    def do_GET(self) -> None:
        if self.path.endswith(".whl"):
            self.wheel(self.server.wheel.read_bytes())  # type: ignore[attr-defined]
        else:
            name = self.server.wheel.name  # type: ignore[attr-defined]
            digest = sha256(self.server.wheel)  # type: ignore[attr-defined]
            self.answer(200, f'<a href="/{name}#sha256={digest}">{name}</a>'.encode())

    def wheel(self, body: bytes) -> None:
        self.answer(200, body)

    def answer(self, code: int, body: bytes, *headers: tuple[str, str], send: int | None = None) -> None:
        self.send_response(code)
        for name, value in (("Content-Type", "text/html"), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:send])
        self.server.bytes += len(body[:send])  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None: ...


class Stalled(Listed):
    """Sends half a wheel, and then nothing more."""

    def wheel(self, body: bytes) -> None:
        self.answer(200, body, send=len(body) // 2)
        self.server.sent.set()  # type: ignore[attr-defined]
        self.server.over.wait(60)  # type: ignore[attr-defined]


class Ranged(Listed):
    """Sends any part of a wheel."""

    def do_HEAD(self) -> None:
        self.answer(200, self.server.wheel.read_bytes(), ("Accept-Ranges", "bytes"), send=0)  # type: ignore[attr-defined]

    def wheel(self, body: bytes) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        told = ("Content-Range", f"bytes {first}-{last}/{len(body)}")
        self.answer(206, body[first : last + 1], ("Accept-Ranges", "bytes"), told)


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, file: Path, kind: type[Listed]) -> None:
        super().__init__(("127.0.0.1", 0), kind)
        self.wheel, self.bytes, self.sent, self.over = file, 0, threading.Event(), threading.Event()


Serve = Callable[[type[Listed]], Site]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[Serve]:
    """Lets pip know of an index with one wheel of a megabyte."""
    only(tmp_path / "nothing", monkeypatch, place.parent)
    monkeypatch.delenv("PIP_NO_INDEX")
    file = wheel(tmp_path / "site", "large", content="#" * 2**20)
    with ExitStack() as stack:

        def start(kind: type[Listed]) -> Site:
            site = stack.enter_context(Site(file, kind))
            monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{site.server_port}/")
            threading.Thread(target=site.serve_forever, daemon=True).start()
            stack.callback(site.shutdown)
            stack.callback(site.over.set)
            return site

        yield start


def test_what_a_wheel_needs_is_read_from_its_end(serve: Serve) -> None:
    site = serve(Ranged)
    (found,) = resolving.resolve(["large"], Target()).wheels
    assert (found.file, found.sha256) == (site.wheel.name, sha256(site.wheel))
    assert site.bytes < 2**16


def test_an_index_without_parts_of_files_will_do(serve: Serve) -> None:
    site = serve(Listed)
    (found,) = resolving.resolve(["large"], Target()).wheels
    assert (found.file, found.sha256) == (site.wheel.name, sha256(site.wheel))
    assert site.bytes > 2**20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_killed_in_the_middle_of_a_wheel_nothing_stays(number: int, serve: Serve, place: Path, tmp_path: Path) -> None:
    """pip keeps what it has fetched when it is killed: 44 GB were found in a folder for temporary files."""
    stalled, temporary = serve(Stalled), tmp_path / "temporary"
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
