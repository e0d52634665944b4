"""Judge, against the clock.

`tiebreak predict` does the work, in a process of its own. All GPUs are used, the layers of the network split over them.
The cheaper judge answers every row first and keeps whatever the judge has no time for, so that a run ends with a whole
submission; how many rows were answered by which of them is counted. If the judge fails altogether, the cheaper one
takes its place, and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.finding import Found
from tiebreak.kaggle.kernel.reporting import NotebookError, Report

GRACE = 300.0
"""Seconds past its time after which a run that should have ended itself is ended."""
RESERVE = 60.0
"""Seconds kept for checking the submission."""


def judge_rows(
    settings: dict[str, Any], found: Found, sample: Path, seen: dict[str, Any], environment: dict[str, str],
    scratch: Path, report: Report,
) -> Path:  # fmt: skip
    """Write the submission into `scratch`; gives its path."""
    output = scratch / "submission.csv"
    common = [str(found.test), "--format", "kaggle", "--sample", str(sample), "-o", str(output), "--json"]
    common += column_options(settings["submission"])
    if found.judge is None:
        run_judge(common, environment, report, limit=report.left() + GRACE, judge="embedded")
        return output
    if settings["needs_gpu"] and not seen["gpus"]:
        torch = seen.get("torch", "is absent")
        report.warn(f"no GPU (torch {torch}, nvidia-smi: {nvidia_smi()}): the cheaper judge does all rows")
        run_judge(common, environment, report, limit=report.left() + GRACE, judge="embedded", reason="no GPU")
        return output
    options = judge_options(settings, found, seen, seconds=max(report.left() - RESERVE, 1.0))
    try:
        run_judge([*common, *options], environment, report, limit=report.left() + GRACE, judge=found.judge.name)
    except NotebookError as error:
        report.warn(f"THE JUDGE FAILED: {error}")
        report.warn("the cheaper judge answers all rows")
        for left in (output, scratch / "submission.csv.parts"):
            shutil.rmtree(left, ignore_errors=True)
        run_judge(common, environment, report, limit=GRACE * 4, judge="embedded", reason=str(error))
    return output


def column_options(form: dict[str, Any]) -> list[str]:
    """The form of the submission, as options."""
    words = [form["labels"][label] for label in ("a", "b", "tie")]
    named = {"winner": ":" + ",".join(words), "winner_without_tie": ":" + ",".join(words[:2])}
    told = {form["id"]: "id"} | {name: content + named.get(content, "") for name, content in form["columns"].items()}
    return [part for name, content in told.items() for part in ("--column", f"{name}={content}")]


def judge_options(settings: dict[str, Any], found: Found, seen: dict[str, Any], *, seconds: float) -> list[str]:
    """The judge, its time, and how it is to run here, as options."""
    options = ["--judge", str(found.judge), "--within", f"{seconds:.0f}", "--otherwise", settings["otherwise"]]
    if found.base is not None:
        options += ["--base", str(found.base)]
    if seen["gpus"]:
        options += ["--devices", ",".join(f"cuda:{number}" for number in range(len(seen["gpus"])))]
    for name, value in settings["predicting"].items():
        if value is not None and value != "auto":
            options += [f"--{name.replace('_', '-')}", str(value)]
    return options


def run_judge(
    options: list[str], environment: dict[str, str], report: Report, *, limit: float, judge: str, reason: str = ""
) -> None:
    """Run `tiebreak predict`, show what it says as it says it, and keep its result in the report."""
    command = [sys.executable, "-m", "tiebreak", "predict", *options]
    report.say(f"tiebreak predict {' '.join(options)}")
    said: list[str] = []
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    )  # fmt: skip
    clock = threading.Timer(max(limit, 1.0), end, [child])
    clock.start()
    try:
        follow = threading.Thread(target=echo, args=(child, said, report))
        follow.start()
        document = child.stdout.read() if child.stdout else ""
        code = child.wait()
        follow.join()
    finally:
        clock.cancel()
        end(child)
    if code:
        raise NotebookError(f"tiebreak predict ended with {code}: " + " | ".join(said[-5:]))
    result = json.loads(document)
    cheaper = result["rows"] if reason else result.get("rows_otherwise", 0)
    report.put(
        judge=judge, rows=result["rows"], rows_otherwise=cheaper, reason=reason or result.get("reason"), run=result
    )


def echo(child: subprocess.Popen[str], said: list[str], report: Report) -> None:
    """Show what a child says, line by line."""
    for line in child.stderr or ():
        said.append(line.strip())
        report.say(line.rstrip())


def end(child: subprocess.Popen[str]) -> None:
    """End a child and all that it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def nvidia_smi() -> str:
    """What the driver says of GPUs, in one line."""
    if shutil.which("nvidia-smi") is None:
        return "absent"
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return "; ".join((done.stdout or done.stderr).split("\n")).strip("; ")[:300]
