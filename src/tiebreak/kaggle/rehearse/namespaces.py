"""A program of its own: runs a command where there is no network, and where nothing but what it is given can be seen.

It is started by path with any Python (`python -I namespaces.py SPEC FD`), needs the standard library alone, and makes
namespaces of its own for mounts, network, processes and System V IPC. As root it needs no more; an ordinary user gets a
user namespace around them. They end with the last process in them, so nothing is left mounted, however it ends.

The file system is put together anew: the system's own folders read-only, `/dev`, a fresh `/proc`, and the places of the
specification. Home folders, caches, credentials, the checkout and `/run` (sockets of other services) are not there.

SPEC is a file with a JSON document: `root` (an empty folder), `shown` (folders of this machine that are shown as they
are), `places` (lists of source, target, writable), `read_only` (the target that is tried), `command`, `environment`,
`directory`. What came of it is written to the file descriptor FD: `{"entered": {...}}` with what was found inside, or
`{"refused": "..."}` with what this machine would not do; then the exit code is 125.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

REFUSED: Final = 125
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _BIND, _REC, _PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
_PDEATHSIG, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 24, 38
# chroot, ptrace, net_admin, net_raw, sys_module, sys_rawio, sys_admin, sys_boot, mknod: what could undo the walls
_CAPABILITIES: Final = (18, 19, 12, 13, 16, 17, 21, 22, 27)
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_SYSTEM: Final = ("usr", "etc", "sys", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix")
_OUTSIDE: Final = ("192.0.2.1", 443)  # TEST-NET-1 of RFC 5737: nobody's
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """This machine will not do what was tried."""


def main(spec: dict[str, Any], report: int) -> int:
    """Make the namespaces, run the command in them, and give its exit code."""
    try:
        _separate()
        _raise_loopback()
    except (OSError, RefusedError) as error:
        return _refuse(report, error)
    child = os.fork()
    if child == 0:
        _first(spec, report)
    os.close(report)
    return _code(os.waitpid(child, 0)[1])


def _separate() -> None:
    """Leave this machine's namespaces; without the right to, take a user namespace first."""
    wanted = _NEWNS | _NEWNET | _NEWPID | _NEWIPC
    user, group = os.geteuid(), os.getegid()
    try:
        if user:
            raise OSError(errno.EPERM, "")
        _call("unshare", wanted)
    except OSError:
        _call("unshare", wanted | _NEWUSER)
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
    # Now that the ids are what they will be: a change of them would have taken this back.
    _call("prctl", _PDEATHSIG, signal.SIGKILL)


def _raise_loopback() -> None:
    """Bring `lo` up: a new network namespace has it, down, and nothing else."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _first(spec: dict[str, Any], report: int) -> NoReturn:
    """The first process of the namespace: builds the file system, starts the command, buries the dead."""
    try:
        _call("prctl", _PDEATHSIG, signal.SIGKILL)
        _furnish(Path(spec["root"]), spec)
        os.chroot(spec["root"])
        os.chdir(spec["directory"])
        _give_up_rights()
        _say(report, {"entered": _look(spec["read_only"])})
    except (OSError, RefusedError) as error:
        os._exit(_refuse(report, error))
    os.close(report)
    command = os.fork()
    if command == 0:
        try:
            os.execve(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606
        except OSError as error:
            sys.stderr.write(f"{spec['command'][0]}: {error.strerror}\n")
            os._exit(127)
    while True:
        pid, status = os.wait()
        if pid == command:
            os._exit(_code(status))  # and the kernel ends whatever else is in here


def _furnish(root: Path, spec: dict[str, Any]) -> None:
    _mount(None, Path("/"), None, _PRIVATE | _REC)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV)
    for name in _SYSTEM:
        there = Path("/", name)
        if there.is_symlink():
            (root / name).symlink_to(os.readlink(there))
        elif there.is_dir():
            _bind(there, root / name)
    _bind(Path("/dev"), root / "dev")
    (root / "proc").mkdir()
    for folder in spec["shown"]:
        _bind(Path(folder), root / folder.lstrip("/"))
    writable = []
    for source, target, may_write in spec["places"]:
        inside = root / target.lstrip("/")
        if may_write:
            writable.append((Path(source), inside))
            _mount_point(Path(source), inside)
        else:
            _bind(Path(source), inside)
    _make_read_only(root)
    for source, inside in writable:
        _mount(str(source), inside, None, _BIND | _REC)
    _mount("tmpfs", root / "dev" / "shm", "tmpfs", _NOSUID | _NODEV)
    try:
        _mount("proc", root / "proc", "proc", _NOSUID | _NODEV)
    except OSError:  # within a container whose own /proc is masked in part
        _mount("/proc", root / "proc", None, _BIND | _REC)


def _bind(source: Path, target: Path) -> None:
    _mount_point(source, target)
    _mount(str(source), target, None, _BIND | _REC)


def _mount_point(source: Path, target: Path) -> None:
    folder = source.is_dir()
    (target if folder else target.parent).mkdir(parents=True, exist_ok=True)
    if not folder:
        target.touch()


def _make_read_only(root: Path) -> None:
    """Every mount below, at once (Linux 5.12 and newer)."""
    attributes = struct.pack("QQQQ", _RDONLY, 0, 0, 0)
    if _LIBC.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(root), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    ):
        number = ctypes.get_errno()
        raise RefusedError(f"mounts cannot be made read-only: {os.strerror(number)}")


def _give_up_rights() -> None:
    """What comes after cannot take the walls down, root or not."""
    _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in _CAPABILITIES:
        _LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # an ordinary user loses all of them at exec anyway


def _look(read_only: str) -> dict[str, Any]:
    """What is found inside: the proof that the walls stand."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()[2:]
    return {
        "interfaces": sorted(line.partition(":")[0].strip() for line in lines),
        "outside": _connect(_OUTSIDE),
        "loopback": _loopback(),
        "input": _write(Path(read_only, ".written")),
        "user": os.geteuid(),
    }


def _connect(address: tuple[str, int]) -> str:
    """What a connection ends with: the name of the error, or nothing where it is made."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.settimeout(3)
        try:
            tried.connect(address)
        except OSError as error:
            return _name(error)
    return ""


def _loopback() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        return _connect(server.getsockname())


def _write(path: Path) -> str:
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        return _name(error)
    return ""


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _mount(source: str | None, target: Path, kind: str | None, flags: int) -> None:
    _call(
        "mount", source and os.fsencode(source), os.fsencode(target), kind and kind.encode(), ctypes.c_ulong(flags),
        None, where=str(target),
    )  # fmt: skip


def _call(name: str, *arguments: object, where: str = "") -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{where and f' of {where}'}: {os.strerror(number)}")


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _refuse(report: int, error: Exception) -> int:
    _say(report, {"refused": error.strerror if isinstance(error, OSError) and error.strerror else str(error)})
    return REFUSED


def _say(report: int, what: dict[str, Any]) -> None:
    os.write(report, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), int(sys.argv[2])))
