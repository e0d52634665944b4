"""`tiebreak kaggle check`: all that Kaggle would do with a pack, done here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tiebreak.cli import console, options, rehearsing
from tiebreak.stopping import stoppable

if TYPE_CHECKING:
    from tiebreak.kaggle.rehearse import Checked

EPILOG = """
Examples:

    tiebreak kaggle check out

    tiebreak kaggle check out --test test.csv --sample sample_submission.csv > submission.csv

    tiebreak kaggle check out --base ~/models/gemma-2-9b-it

    tiebreak kaggle check out --isolation namespaces --json
"""
_MARKS: Final = {True: "✓", False: "✗", None: "–"}


def command(
    pack: rehearsing.Pack,
    test: rehearsing.Test = None,
    sample: rehearsing.Sample = None,
    base: rehearsing.Base = None,
    memory: rehearsing.Memory = 30.0,
    isolation: rehearsing.Isolation = "auto",
    interpreter: rehearsing.Interpreter = None,
    mounts: rehearsing.Mounts = "new",
    as_json: options.Json = False,
) -> None:
    """Hold a pack against every rule of Kaggle's, run its notebook as Kaggle would, and print the submission."""
    from tiebreak.kaggle import rehearse
    from tiebreak.kaggle.layout import Layout

    rehearsing.settle(isolation, mounts)
    with stoppable(), tempfile.TemporaryDirectory(prefix="tiebreak-check-") as folder:
        found = rehearse.check(
            Layout(pack), keep=Path(folder), test=test, sample=sample, base=base, memory=memory, isolation=isolation,
            interpreter=interpreter, mounts=mounts, listener=rehearsing.listener(),
        )  # fmt: skip
        _report(found, pack, as_json)
    found.raise_failures()


def _report(found: Checked, pack: Path, as_json: bool) -> None:
    for check in found.checks:
        tell = console.say if check.held is False else console.note
        tell(f"{_MARKS[check.held]} {check.name:<10}  {check.found}")
    ran = found.rehearsal
    submission = ran.submission.read_text(encoding="utf-8") if ran is not None else None
    if as_json:
        console.emit_json({
            "pack": str(pack), "good": found.good,
            "checks": [{"name": c.name, "held": c.held, "found": c.found, "error": c.error} for c in found.checks],
            "rehearsal": None if ran is None else {
                key: value for key, value in ran.as_dict().items() if key not in {"submission", "log"}
            },
            "submission": submission,
        })  # fmt: skip
    elif submission is not None:
        console.emit(submission.rstrip("\n"))
