"""Put into a clean environment where there are no namespaces: every Python in it refuses to leave this machine.

An audit hook cannot be taken out again. It sees what Python does; a library that opens connections by itself, in C, is
not seen, which is why the rehearsal says in that case that the network was refused by Python alone.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from typing import Any

_CONNECTING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_LOOKING_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _CONNECTING:
        connected, address = arguments[0], arguments[1]
        if connected.family in {socket.AF_INET, socket.AF_INET6} and address and not _is_here(str(address[0])):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
    elif event in _LOOKING_UP and arguments[0] is not None and _is_elsewhere(_text(arguments[0])):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def _text(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host


def _is_here(host: str) -> bool:
    address = _address(host)
    return host in {"", "localhost"} or (address is not None and (address.is_loopback or address.is_unspecified))


def _is_elsewhere(name: str) -> bool:
    """Whether somebody else has to be asked for the address."""
    return name not in {"", "localhost"} and _address(name) is None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


sys.addaudithook(_hook)
