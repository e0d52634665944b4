"""Refuse every connection.

The notebook puts this file on the path of its Python children as `sitecustomize`, which Python runs at its start. From
then on a connection that would leave the machine is refused, as if there were no network, and written down: that the
record is empty at the end is the proof that none was tried.
"""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import ipaddress
import os
import sys
from pathlib import Path
from typing import Any

RECORD = "TIEBREAK_NETWORK_RECORD"
EVENTS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
          "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}  # fmt: skip


def is_local(host: Any) -> bool:
    """Whether a host is this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or host in {"", "localhost", "localhost.localdomain", os.uname().nodename}:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified or str(address) in own_addresses()


def own_addresses() -> set[str]:
    """The addresses behind the machine's own name: processes of one run meet there."""
    import socket

    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(os.uname().nodename, None)}
    except OSError:
        return set()


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: refuses and records what would leave the machine."""
    if event not in EVENTS:
        return
    target = arguments[EVENTS[event]]
    host = target[0] if isinstance(target, tuple) and target else target
    in_the_kernel = EVENTS[event] == 1 and not isinstance(target, tuple)  # a Unix socket, or no address at all
    if in_the_kernel or is_local(host):
        return
    line = f"{os.getpid()} {event} {target!r} {' '.join(sys.argv[:3])}".replace("\n", " ")
    place = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, f"{line}\n".encode("utf-8", "replace"))
    os.close(place)
    raise OSError(errno.ENETUNREACH, f"tiebreak's notebook works without the network: {event} {target!r}")


def hand_on() -> None:
    """Run the `sitecustomize` that Python would have run without us."""
    here = Path(__file__).resolve().parent
    others = [place for place in sys.path if Path(place).resolve() != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize" and RECORD in os.environ:
    sys.addaudithook(refuse)
    hand_on()
