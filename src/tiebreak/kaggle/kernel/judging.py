"""Judge, against the clock.

`tiebreak predict` does the work, in a process of its own. All GPUs are used, the layers of the network split over them.
The cheaper judge answers every row first and keeps whatever the judge has no time for, so that a run ends with a whole
submission; how many rows were answered by which of them is counted. If the judge fails altogether, the cheaper one
takes its place, and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.asking import attempts, column_options, judge_options
from tiebreak.kaggle.kernel.finding import Found
from tiebreak.kaggle.kernel.reporting import NotebookError, Report
from tiebreak.kaggle.kernel.running import run_child

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
    common += [part for item in settings["map"].items() for part in ("--map", "=".join(item))]
    common += column_options(settings["submission"])
    if found.judge is None:
        run_judge(common, environment, report, limit=report.left() + GRACE, judge="embedded")
        return output
    driver = nvidia_smi()
    if driver != "absent" and not seen["gpus"]:
        report.warn(f"torch {seen.get('torch', 'is absent')} sees no GPU, but nvidia-smi says: {driver}")
    if settings["needs_gpu"] and not seen["gpus"]:
        report.warn("without a GPU there is no time for this judge: the cheaper judge does all rows")
        run_judge(common, environment, report, limit=report.left() + GRACE, judge="embedded", reason="no GPU")
        return output
    try:
        run_on_devices(settings, found, seen["gpus"], common, environment, report)
    except NotebookError as error:
        report.warn(f"THE JUDGE FAILED: {error}")
        report.warn("the cheaper judge does all rows")
        clear(output)
        run_judge(common, environment, report, limit=GRACE * 4, judge="embedded", reason=str(error))
    return output


def run_on_devices(
    settings: dict[str, Any], found: Found, seen: list[str], common: list[str], environment: dict[str, str],
    report: Report,
) -> None:  # fmt: skip
    """Run the judge on all GPUs; where it does no row on several, and there is time, on the first alone."""
    output = Path(common[common.index("-o") + 1])
    name = json.loads((Path(str(found.judge)) / "judge.json").read_text(encoding="utf-8"))["name"]
    for number, gpus in enumerate(attempts(seen)):
        if number:
            report.warn("on several GPUs the judge did no row: once more, on the first alone")
            clear(output)
        options = judge_options(settings, found, gpus, seconds=max(report.left() - RESERVE, 1.0))
        run_judge([*common, *options], environment, report, limit=report.left() + GRACE, judge=name)
        if report.facts["rows_otherwise"] < max(report.facts["rows"], 1) or report.left() < report.hours * 1800:
            break
    if report.facts["rows_otherwise"]:
        report.warn(f"{report.facts['rows_otherwise']:,} rows by the cheaper judge: {report.facts['reason']}")


def clear(output: Path) -> None:
    """Remove what a run has written, finished or not: the next one is another run."""
    output.unlink(missing_ok=True)
    shutil.rmtree(f"{output}.parts", ignore_errors=True)


def run_judge(
    options: list[str], environment: dict[str, str], report: Report, *, limit: float, judge: str, reason: str = ""
) -> None:
    """Run `tiebreak predict` and keep its result in the report."""
    report.say(f"tiebreak predict {' '.join(options)}")
    command = [sys.executable, "-m", "tiebreak", "predict", *options]
    code, document, said = run_child(command, environment, report, limit=limit)
    if code:
        how = f"was killed by signal {-code} (9 is often a lack of memory)" if code < 0 else f"ended with {code}"
        raise NotebookError(f"tiebreak predict {how}: {' | '.join(said[-5:])}")
    result = result_of(document)
    rows = result.get("rows", 0)
    cheaper = rows if reason else result.get("rows_otherwise", 0)
    why = reason or result.get("reason") or ("" if result else "tiebreak predict did not say what it did")
    report.put(judge=judge, rows=rows, rows_otherwise=cheaper, reason=why, run=result)


def result_of(document: str) -> dict[str, Any]:
    """The JSON that `tiebreak predict` prints, whatever other libraries print before it; empty: there is none."""
    with suppress(ValueError):
        found: dict[str, Any] = json.loads(document[f"\n{document}".rfind("\n{") :])
        return found
    return {}


def nvidia_smi() -> str:
    """What the driver says of GPUs, in one line."""
    if shutil.which("nvidia-smi") is None:
        return "absent"
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return "; ".join((done.stdout or done.stderr).split("\n")).strip("; ")[:300]
