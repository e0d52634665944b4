"""Run a program, and end it.

What it says is shown as it says it. At its time it is asked to end, and made to if it does not.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from tiebreak.kaggle.kernel.reporting import Report


def run_child(
    command: list[str], environment: dict[str, str], report: Report, *, limit: float, patience: float = 20.0
) -> tuple[int, str, list[str]]:
    """Run a program for at most `limit` seconds: its exit code, its stdout, and the lines of its stderr."""
    said: list[str] = []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, errors="replace") as child:
        clock = threading.Timer(max(limit, 1.0), end, [child, patience])
        follow = threading.Thread(target=echo, args=(child, said, report))
        clock.start()
        follow.start()
        try:
            document = child.stdout.read() if child.stdout else ""
            code = child.wait()
        finally:
            clock.cancel()
            end(child, patience)
            follow.join()
    return code, document, said


def echo(child: subprocess.Popen[str], said: list[str], report: Report) -> None:
    """Show what a child says, line by line."""
    for line in child.stderr or ():
        said.append(line.strip())
        report.say(line.rstrip())


def end(child: subprocess.Popen[str], patience: float) -> None:
    """End a child; if it does not end by itself, then with all that it started."""
    if child.poll() is not None:
        return
    started = descendants(child.pid)
    child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        for process in (child.pid, *started):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def descendants(process: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = list(children.get(process, []))
    for other in found:
        found += children.get(other, [])
    return found
