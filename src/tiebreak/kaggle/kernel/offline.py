"""Prove that no network is needed.

First a look whether there is a network at all: in the scored run there is none, in an interactive session there may be.
Then every Python program that the notebook starts is put behind the guard above.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ADDRESSES = (("1.1.1.1", 443), ("8.8.8.8", 53), ("9.9.9.9", 443))
NAMES = ("www.kaggle.com", "example.org")
WITHOUT_NETWORK = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1", "WANDB_MODE": "disabled",
    "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}  # fmt: skip


def network_reached(
    addresses: Sequence[tuple[str, int]] = ADDRESSES, names: Sequence[str] = NAMES, seconds: float = 3.0
) -> list[str]:
    """What answers of a few well-known addresses and names; all are tried at once, and none is waited for longer."""
    answered: list[str] = []

    def attempt(what: str, contact: Callable[[], Any]) -> None:
        try:
            contact()
        except OSError:
            return
        answered.append(what)

    attempts: dict[str, Callable[[], Any]] = {
        f"{host}:{port}": partial(connect, (host, port), seconds) for host, port in addresses
    }
    attempts |= {name: partial(socket.getaddrinfo, name, 443) for name in names}
    threads = [threading.Thread(target=attempt, args=item, daemon=True) for item in attempts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return sorted(answered)


def connect(address: tuple[str, int], seconds: float) -> None:
    """Connect, and hang up."""
    with socket.create_connection(address, timeout=seconds):
        pass


def guarded_environment(scratch: Path, guard: str, packages: Path) -> dict[str, str]:
    """The environment of the notebook's children: behind the guard, the packages before the image's own.

    Args:
        scratch: Folder for the guard and its record.
        guard: Source of the guard.
        packages: Folder that the wheels are installed into.
    """
    folder, record = scratch / "guard", scratch / "network.txt"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(guard, encoding="utf-8")
    record.write_text("", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    path = os.pathsep.join([str(folder), str(packages), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, **WITHOUT_NETWORK, "PYTHONPATH": path, "TIEBREAK_NETWORK_RECORD": str(record)}


def refused_connections(environment: dict[str, str]) -> list[str]:
    """The connections that were tried and refused, one a line."""
    return Path(environment["TIEBREAK_NETWORK_RECORD"]).read_text(encoding="utf-8").splitlines()
