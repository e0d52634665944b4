"""What a compression would do, said without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tiebreak.compress import environment
from tiebreak.compress.methods import GROUP, Method, find
from tiebreak.compress.task import Task, check
from tiebreak.judges.base import Located, resolve
from tiebreak.judges.base.loading import checkpoint
from tiebreak.judges.base.locate import weight_files

_ZERO_AND_SCALE: Final = {True: 16, False: 20}
"""Bits beside each group: a scale of 16, and a zero point of 4 where the range is not symmetric."""


def plan(task: Task) -> dict[str, str]:
    """A sentence for each part of the work.

    Raises:
        UsageError: The judge cannot be compressed.
    """
    method = find(task.method)
    judge = check(task)
    located = resolve(judge.base())
    folder = checkpoint(located)
    size = sum(path.stat().st_size for path in weight_files(Located(located.base, folder)))
    rows = min(task.rows, task.calibration.height)
    return {
        "judge": f"{task.judge}: {judge.kind}, weights of {size / 1e6:,.0f} MB"
        + (", adapter merged in fp32 first" if judge.settings.adapter else ""),
        "method": f"{method.name}: {_words(method)}",
        "calibration": f"{rows:,} of {task.calibration.height:,} rows" if method.calibrated else "needs no rows",
        "environment": _environment(task.python) if method.calibrated else "none of its own",
        "measured": f"on {task.validation.height:,} rows, against the judge itself; work in {task.output}.run",
    }


def _words(method: Method) -> str:
    if method.algorithm == "nf4":
        return "linear layers in 4-bit NormalFloat, groups of 64, scales in 8 bits"
    scales = f"groups of at most {GROUP}" if method.grouped else "a scale an output"
    inputs = ", inputs rounded to 8 bits as they arrive" if method.activation_bits == 8 else ""
    beside = _ZERO_AND_SCALE[method.symmetric] / GROUP if method.grouped else 0.0
    return f"linear layers in {method.bits} bits ({method.bits + beside:.2f} with scales), {scales}{inputs}"


def _environment(python: Path | None) -> str:
    if environment.is_there(python):
        return f"llm-compressor in {python or environment.place()}"
    return (
        f"llm-compressor {environment.LLMCOMPRESSOR}, to be installed in {environment.place()}: {environment.SIZE}, "
        f"{environment.MINUTES}"
    )
