"""Keep a report.

Every stage is timed, and what was found, done and noticed goes to `tiebreak.json` beside the submission. The report is
written anew after each stage, so that a run that is stopped leaves what it knew.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class NotebookError(Exception):
    """What went wrong, what would have been right, and what mends it."""

    def __init__(self, wrong: str, *, expected: str = "", mend: str = "") -> None:
        parts = [wrong, f"expected {expected}" if expected else "", f"to mend: {mend}" if mend else ""]
        super().__init__("; ".join(part for part in parts if part))


class Report:
    """The report of one run, and its clock.

    Args:
        path: Where the report is written.
        hours: Hours that the whole run may take, counted from now.
    """

    def __init__(self, path: Path, hours: float) -> None:
        self.path, self.began, self.hours = path, time.monotonic(), hours
        self.facts: dict[str, Any] = {"format": 1, "complete": False, "hours": hours, "stages": {}, "notes": []}

    def seconds(self) -> float:
        """Since the start of the run."""
        return time.monotonic() - self.began

    def left(self) -> float:
        """Seconds that the run still may take."""
        return self.hours * 3600 - self.seconds()

    def say(self, text: str) -> None:
        """Print every line of a text with the time since the start before it."""
        for line in text.splitlines():
            sys.stdout.write(f"[{self.seconds():8.1f} s] {line}\n")
        sys.stdout.flush()

    def warn(self, text: str) -> None:
        """Print a text that must not be overlooked, and keep it in the report."""
        self.facts["notes"].append(text)
        self.say(f"WARNING: {text}")

    def put(self, **facts: Any) -> None:
        """Add facts, and write the report."""
        self.facts.update(facts)
        aside = self.path.with_suffix(".partial")
        aside.write_text(json.dumps(self.facts, indent=1) + "\n", encoding="utf-8")
        os.replace(aside, self.path)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; if it fails the report says where and why."""
        start = self.seconds()
        self.say(f"== {name}")
        try:
            yield
        except BaseException as error:
            self.facts["failed"] = {"stage": name, "error": f"{type(error).__name__}: {error}"}
            raise
        finally:
            self.facts["stages"][name] = round(self.seconds() - start, 3)
            self.put(seconds=round(self.seconds(), 3))
