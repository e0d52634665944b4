"""The walls of a rehearsal, looked at from within: what can be reached, seen and written, and what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tiebreak.errors import UsageError
from tiebreak.kaggle.rehearse import image, memory, sandbox

PROGRAMS = Path(sandbox.__file__).parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


def namespaces() -> bool:
    box = sandbox.prepare()
    box.close()
    return box.kind == "namespaces"


WALLS = pytest.mark.skipif(sys.platform != "linux" or not namespaces(), reason="this machine makes no namespaces")


def inside(tmp_path: Path, command: str, *, python: str = sys.executable, **started: Any) -> tuple[Any, str, int]:
    """Run a shell command behind namespaces; what the program reports, its output, its exit code."""
    for name in ("root", "input", "working"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "input" / "there").write_text("given\n")
    places = [[str(tmp_path / "input"), "/kaggle/input", False], [str(tmp_path / "working"), "/kaggle/working", True]]
    spec = {
        "root": str(tmp_path / "root"), "shown": [], "places": places, "read_only": "/kaggle/input",
        "command": ["/bin/sh", "-c", command], "environment": {"PATH": os.defpath}, "directory": "/kaggle/working",
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    program = tmp_path / "namespaces.py"
    shutil.copyfile(PROGRAMS / "namespaces.py", program)
    mine, theirs = os.pipe()
    process = subprocess.Popen(
        [python, "-I", str(program), str(tmp_path / "spec.json"), str(theirs)],
        pass_fds=[theirs], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **started,
    )  # fmt: skip
    os.close(theirs)
    with os.fdopen(mine) as pipe:
        said = json.loads(pipe.readline())
    output = process.communicate(timeout=60)[0]
    return said, output, process.returncode


@WALLS
def test_inside_there_is_loopback_alone_and_the_input_cannot_be_written(tmp_path: Path) -> None:
    said, output, code = inside(tmp_path, "cat /kaggle/input/there; echo no > /kaggle/input/there; echo yes > kept")
    assert said == {
        "entered": {
            "interfaces": ["lo"], "outside": "ENETUNREACH", "loopback": "", "input": "EROFS", "user": os.geteuid(),
        }
    }  # fmt: skip
    assert code == 0
    assert output.startswith("given\n")
    assert "Read-only file system" in output
    assert (tmp_path / "input" / "there").read_text() == "given\n"
    assert (tmp_path / "working" / "kept").read_text() == "yes\n"


@WALLS
def test_homes_checkouts_and_temporary_files_of_this_machine_are_not_there(tmp_path: Path) -> None:
    _, output, _ = inside(
        tmp_path, f"ls -d {Path.home()} {Path(__file__).parent} {tmp_path} /tmp /run; ls /; ls /kaggle"
    )
    assert output.count("No such file or directory") == 5
    top = output.split()
    assert {"usr", "proc", "dev", "kaggle"} <= set(top)
    assert not {"home", "root", "run", "tmp", "work", "var", "mnt", "srv"} & set(top)


@WALLS
def test_nothing_outside_a_place_can_be_written_and_the_walls_stay(tmp_path: Path) -> None:
    _, output, _ = inside(
        tmp_path, "touch /usr/written /etc/written /written; umount /kaggle/input; mount -t tmpfs x /kaggle/working;"
        "grep CapEff /proc/self/status; ls /proc | grep -c '^[0-9]'; echo $$",
    )  # fmt: skip
    assert output.count("Read-only file system") == 3
    assert "umount:" in output
    assert "mount:" in output
    held = int(output.split("CapEff:")[1].split()[0], 16)
    assert not held & (1 << 21 | 1 << 12 | 1 << 18)  # sys_admin, net_admin, chroot
    assert output.split()[-1] == "2"  # processes of this machine are not seen


@WALLS
@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_the_exit_code_comes_out(tmp_path: Path, command: str, code: int) -> None:
    assert inside(tmp_path, command)[2] == code


@WALLS
def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    mark = f"31{time.time_ns() % 10**7:07d}"
    inside(tmp_path, f"setsid sleep {mark} & sleep 0.2; exit 0")
    time.sleep(0.1)
    assert not running(mark)


@WALLS
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_gets_the_same_walls() -> None:
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("no Python that an ordinary user could run")
    home = Path(f"/tmp/tiebreak-user-{os.getpid()}-{time.time_ns()}")  # noqa: S108
    home.mkdir()
    try:
        os.chown(home, 65534, 65534)
        for name in ("root", "input", "working"):
            (home / name).mkdir()
            os.chown(home / name, 65534, 65534)
        said, output, code = inside(
            home, "id -u; echo no > /kaggle/input/there; echo yes > kept; grep CapEff /proc/self/status", python=python,
            user=65534, group=65534, extra_groups=[], cwd="/",
        )  # fmt: skip
        assert said["entered"] == {
            "interfaces": ["lo"], "outside": "ENETUNREACH", "loopback": "", "input": "EROFS", "user": 65534,
        }  # fmt: skip
        assert code == 0
        assert output.startswith("65534\n")
        assert "Read-only file system" in output
        assert int(output.split("CapEff:")[1], 16) == 0
        assert (home / "working" / "kept").stat().st_uid == 65534
    finally:
        shutil.rmtree(home)


@LINUX
def test_a_machine_that_refuses_is_told_of(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"space = runpy.run_path({str(PROGRAMS / 'namespaces.py')!r})\n"
        "def refuse(*_): raise OSError(1, 'unshare: Operation not permitted')\n"
        "space['main'].__globals__['_separate'] = refuse\n"
        "sys.exit(space['main']({}, 1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert json.loads(done.stdout) == {"refused": "unshare: Operation not permitted"}


def test_without_namespaces_it_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_launch", lambda *_: (subprocess.Popen(["true"]), {"refused": "not permitted"}))
    box = sandbox.prepare()
    assert (box.kind, box.reason) == ("python", "not permitted")
    box.close()
    assert not box.folder.exists()
    with pytest.raises(UsageError, match=r"will not make any \(not permitted\)"):
        sandbox.prepare("namespaces")


def test_walls_that_leak_do_not_hold() -> None:
    assert sandbox.Walls("namespaces", ("lo",), "ENETUNREACH", "EROFS").hold
    assert not sandbox.Walls("namespaces", ("eth0", "lo"), "ENETUNREACH", "EROFS").hold
    assert not sandbox.Walls("namespaces", ("lo",), "", "EROFS").hold
    assert sandbox.Walls("python", ("eth0", "lo"), "Network is unreachable", "").hold
    assert not sandbox.Walls("python", ("eth0", "lo"), "", "").hold


@LINUX
def test_without_namespaces_nothing_is_left_running_either() -> None:
    mark = f"32{time.time_ns() % 10**7:07d}"
    daemon = f"setsid sh -c 'sleep {mark} & sleep {mark} & wait' & sleep 0.2; exit 3"
    done = subprocess.run([sys.executable, "-I", PROGRAMS / "bare.py", "/bin/sh", "-c", daemon], check=False)
    assert done.returncode == 3
    assert not running(mark)


@LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_without_namespaces_the_death_of_the_parent_ends_all(number: int) -> None:
    mark = f"33{time.time_ns() % 10**7:07d}"
    command = [str(PROGRAMS / "bare.py"), "/bin/sh", "-c", f"setsid sleep {mark} & sleep {mark}"]
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-I', *{command!r}]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait(lambda: len(running(mark)) == 3)  # the shell and its two
    parent.send_signal(number)
    parent.wait()
    wait(lambda: not running(mark))


@WALLS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_behind_namespaces_the_death_of_the_parent_ends_all(tmp_path: Path, number: int) -> None:
    mark = f"34{time.time_ns() % 10**7:07d}"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import pathlib, test_kaggle_rehearse_walls as walls\n"
        f"walls.inside(pathlib.Path({str(tmp_path)!r}), 'setsid sleep {mark} & sleep {mark}')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait(lambda: len(running(f"sleep {mark}")) >= 2)
    parent.send_signal(number)
    parent.wait()
    wait(lambda: not running(mark))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("", True), ("0.0.0.0", True),  # noqa: S104
        ("localhost.example.org", False), ("10.0.0.1", False), ("192.0.2.1", False), ("example.org", False),
        ("127.0.0.1.example.org", False), ("fe80::1%eth0", False), ("2001:db8::1", False),
    ],
)  # fmt: skip
def test_what_python_refuses(host: str, here: bool) -> None:
    """A name given to connect is looked up before Python tells of it: then there is an error all the same."""
    code = f"""
import errno, ipaddress, runpy, socket
space = runpy.run_path({str(PROGRAMS / "refusing.py")!r})
host, here = {host!r}, {here}
assert space["_is_here"](host) is here
def attempt(act):
    try:
        act()
    except OSError as error:
        return error.errno
if not here:
    number = space["_address"](host) is not None
    assert number or attempt(lambda: socket.getaddrinfo(host.encode(), 443)) == socket.EAI_AGAIN
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind, use in ((socket.SOCK_STREAM, "connect"), (socket.SOCK_DGRAM, "sendto")):
        with socket.socket(family, kind) as one:
            found = attempt(lambda: one.connect((host, 1)) if use == "connect" else one.sendto(b"", (host, 1)))
            assert found == errno.ENETUNREACH if number and "%" not in host else found is not None, found
a, b = socket.socketpair()
a.send(b"1")
a.sendmsg([b"2"])
assert b.recv(2) == b"12"
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_interpreter_of_another_version_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = image.find(image.running())
    assert here.version == image.running()
    assert here.executable.resolve() == here.executable
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"no Python 3\.99 here, .*install Python 3\.99, or pack for this one"):
        image.find("3.99")
    broken = tmp_path / "python3.99"
    broken.write_text("#!/bin/sh\necho not found >&2; exit 127\n")  # what a version manager leaves on PATH
    broken.chmod(0o755)
    with pytest.raises(UsageError, match=r"no Python 3\.99 here"):
        image.find("3.99")
    with pytest.raises(UsageError, match=rf"is Python {image.running()}, and the wheels of this pack are for 3\.99"):
        image.find("3.99", Path(sys.executable))
    assert image.find(image.running(), Path(sys.executable)) == here


def running(mark: str) -> list[int]:
    """Processes whose command line has the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in text and int(entry.parent.name) not in {os.getpid(), os.getppid()} and "-c" not in text.split()[:2]:
            found.append(int(entry.parent.name))
    return found


def wait(until: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@LINUX
def test_memory_that_is_shared_is_counted_once() -> None:
    """64 MiB, written by a process and then shared with three that it forks."""
    code = (
        "import os, time\n"
        "block = bytearray(os.urandom(1 << 26))\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0: time.sleep(60)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(memory.tree(process.pid)) == 4
        held = memory.Meter(process.pid).sample()
        assert 1 << 26 <= held < 2 << 26
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_process_that_has_gone_holds_nothing() -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    assert memory.Meter(done.pid).sample() == 0
    assert 0 < memory.of_this_machine() < 1 << 50
    assert memory.at([(0.0, 5), (1.0, 9), (2.0, 7)], 1.5, 3.0) == 7
