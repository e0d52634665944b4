"""Faults for the workers of a prediction run, put into every Python process that a test starts.

Workers are processes of their own; a `sitecustomize` on their path is how a test gets into them without the code under
test knowing of tests.
"""

from __future__ import annotations

import os
from pathlib import Path

SITE = '''
import os, pathlib, signal, sys, time

here = pathlib.Path({here!r})


def first_time(name):
    try:
        os.close(os.open(here / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def fault(table):
    """What happens before a chunk is judged."""
{body}


def install():
    from tiebreak.judges.features import FeaturesJudge
    judged = FeaturesJudge.score

    def score(self, table):
        fault(table)
        return judged(self, table)

    FeaturesJudge.score = score


if {condition}:
    install()
'''
DIE = 'sys.stderr.write("a last word\\n"); sys.stderr.flush(); os.kill(os.getpid(), signal.SIGKILL)'
IN_WORKERS = '"tiebreak.predict.worker" in sys.orig_argv'


def environment(here: Path, body: str, *, condition: str = IN_WORKERS) -> dict[str, str]:
    """The environment in which the embedded judge fails as `body` says, where `condition` holds."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (here / "sitecustomize.py").write_text(SITE.format(here=str(here), body=lines, condition=condition))
    return {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def processes(mark: Path) -> list[int]:
    """Processes whose command line names this path."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(mark).encode() in line:
                found.append(int(entry.name))
    return found
