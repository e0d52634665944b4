"""What the notebook starts cannot reach the network, and what tried is counted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiebreak.kaggle.kernel import guard, offline
from tiebreak.kaggle.kernel.reporting import Report
from tiebreak.kaggle.kernel.running import descendants, run_child

GUARD = Path(str(guard.__file__)).read_text()

TRIES = """
import asyncio, socket, sys
def tcp(): socket.create_connection(("192.0.2.1", 80), timeout=2)
def six(): socket.create_connection(("2001:db8::1", 80), timeout=2)
def name(): socket.getaddrinfo("tiebreak.invalid", 80)
def old(): socket.gethostbyname("tiebreak.invalid")
def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))
def message(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendmsg([b"x"], [], 0, ("192.0.2.1", 53))
def late():
    async def go(): await asyncio.open_connection("192.0.2.1", 80)
    asyncio.run(go())
def url():
    import urllib.request
    urllib.request.urlopen("http://192.0.2.1/", timeout=2)
try:
    globals()[sys.argv[1]]()
except OSError as error:
    print("refused" if "without the network" in str(error) else f"not by us: {error}")
"""
LOCAL = """
import socket, socketserver, sys, threading, os
server = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
threading.Thread(target=server.handle_request).start()
socket.create_connection(server.server_address, timeout=5).close()
socket.getaddrinfo("localhost", 80); socket.getaddrinfo(None, 80); socket.getaddrinfo("127.0.0.1", 80)
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); one.bind(sys.argv[1])
two = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); two.connect(sys.argv[1]); two.send(b"x")
three = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); three.sendto(b"x", sys.argv[1])
left, right = socket.socketpair(); left.sendmsg([b"x"])
try: socket.getaddrinfo(os.uname().nodename, 80)
except socket.gaierror: pass
print("fine")
"""


def child(environment: dict[str, str], code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return offline.guarded_environment(tmp_path, GUARD, tmp_path / "packages")


@pytest.mark.parametrize("way", ["tcp", "six", "name", "old", "udp", "message", "late", "url"])
def test_every_way_out_is_refused_and_counted(environment: dict[str, str], way: str) -> None:
    if way == "six" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    assert child(environment, TRIES, way) == "refused"
    found = offline.refused_connections(environment)
    assert len(found) == 1
    assert "192.0.2.1" in found[0] or "2001:db8::1" in found[0] or "tiebreak.invalid" in found[0]


def test_what_stays_on_the_machine_is_let_through(environment: dict[str, str], tmp_path: Path) -> None:
    assert child(environment, LOCAL, str(tmp_path / "socket")) == "fine"
    assert offline.refused_connections(environment) == []


def test_children_of_children_are_guarded_too(environment: dict[str, str]) -> None:
    code = (
        f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {TRIES!r}, 'tcp'], text=True))"
    )
    assert child(environment, code) == "refused"
    assert len(offline.refused_connections(environment)) == 1


def test_the_sitecustomize_of_the_image_runs_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("import builtins; builtins.of_the_image = 'yes'")
    monkeypatch.setenv("PYTHONPATH", str(theirs))
    environment = offline.guarded_environment(tmp_path, GUARD, tmp_path / "packages")
    assert child(environment, "print(of_the_image)") == "yes"
    assert child(environment, TRIES, "tcp") == "refused"


def test_settings_of_pip_do_not_reach_the_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid")
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
    environment = offline.guarded_environment(tmp_path, GUARD, tmp_path / "packages")
    assert {name: environment[name] for name in environment if name.startswith("PIP_")} == {
        "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_whether_there_is_a_network_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        closed = socket.create_server(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
        closed.close()
        found = offline.network_reached([("127.0.0.1", port), ("127.0.0.1", dead)], ["localhost"], seconds=2)
    assert found == sorted([f"127.0.0.1:{port}", "localhost"])


def test_nobody_waits_for_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: never.wait(30))
    assert offline.network_reached([], ["slow"], seconds=0.05) == []
    never.set()


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_an_address_is_local_if_it_is_a_loopback(address: object) -> None:
    text = str(address)
    mapped = getattr(address, "ipv4_mapped", None) or address
    expected = mapped.is_loopback or mapped.is_unspecified or str(mapped) in guard.own_addresses()
    assert guard.is_local(text) == expected
    assert guard.is_local(text.encode()) == expected


@pytest.mark.parametrize(
    ("host", "local"),
    [("", True), (None, True), (os.uname().nodename, True), ("localhost", True), ("fe80::1%eth0", False),
     ("example.org", False), ("::ffff:127.0.0.1", True), ("::ffff:192.0.2.1", False)],
)  # fmt: skip
def test_hosts(host: str | None, local: bool) -> None:
    assert guard.is_local(host) == local


def test_a_program_is_ended_at_its_time_with_what_it_started(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'], stdout=-3, stderr=-3)\n"
        "print('up', file=sys.stderr, flush=True)\n"
        "time.sleep(120)\n"
    )
    report = Report(tmp_path / "tiebreak.json", 1)
    before = set(descendants(os.getpid()))
    command = [sys.executable, "-c", stubborn]
    found = run_child(command, dict(os.environ), report, limit=1.5, patience=0.5)
    assert found == (-9, "", ["up"])
    assert set(descendants(os.getpid())) <= before


def test_what_a_program_says_is_shown_as_it_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(tmp_path / "tiebreak.json", 1)
    code = "import sys; print('data'); print('one', file=sys.stderr); print('two', file=sys.stderr); sys.exit(3)"
    found = run_child([sys.executable, "-c", code], dict(os.environ), report, limit=60)
    assert found == (3, "data\n", ["one", "two"])
    assert [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()] == ["one", "two"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_without_a_network_nothing_answers_and_nobody_waits(tmp_path: Path) -> None:
    code = "from tiebreak.kaggle.kernel.offline import network_reached; print(network_reached(seconds=5))"
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("no namespaces here")
    assert done.stdout.strip() == "[]", done.stderr
