"""What is asked of a compression, and whether the judge can be compressed at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from tiebreak import bundle, comparisons, judges, storage
from tiebreak.compress import quantising
from tiebreak.compress.environment import Environment
from tiebreak.errors import UsageError
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.runtime import Runtime

KINDS: Final = ("classifier", "siamese", "generative")
"""Judges whose weights can be compressed."""

ROWS: Final = 128
"""Calibration rows when nobody says."""


@dataclass(frozen=True)
class Task:
    """What is asked for.

    Attributes:
        judge: Bundle of the judge; it stays as it is.
        method: Name of one of `METHODS`.
        calibration: Comparisons of the training data.
        validation: Comparisons to measure on, best ones that no training saw.
        output: Directory of the new bundle.
        rows: Calibration rows.
        seed: Of the draw of those.
        force: Write a bundle that the gate refuses; recorded in it.
        python: Python of an environment with llm-compressor; None: see `environment.find`.
        runtime: Devices, lengths, and where the base of the judge lies.
        grid: Scales that AWQ tries for each group of layers.
    """

    judge: Path
    method: str
    calibration: pl.DataFrame
    validation: pl.DataFrame
    output: Path
    rows: int = ROWS
    seed: int = 0
    force: bool = False
    python: Path | None = None
    runtime: Runtime = field(default_factory=Runtime)
    grid: int = quantising.GRID

    @property
    def run_folder(self) -> Path:
        """Where the stages lie."""
        return self.output.with_name(f"{self.output.name}.run")


def check(task: Task) -> FinetunedJudge:
    """The judge, if it can be compressed.

    Raises:
        UsageError: It has no network, is compressed already, or was trained on a base in 4 bits.
    """
    if task.output.resolve() == task.judge.resolve():
        raise UsageError(
            f"-o {task.output} is the judge itself", expected="another directory: a judge is never altered"
        )
    judge = judges.load(task.judge)
    if not isinstance(judge, FinetunedJudge):
        raise UsageError(f"a {judge.kind} judge has no network to compress", expected="a fine-tuned judge")
    settings = judge.settings
    if judge.kind not in KINDS:
        raise UsageError(
            f"a {judge.kind} judge is not compressed", expected=f"a judge of the kinds {', '.join(KINDS)}",
            mend="tiebreak wrap reward --quantize nf4" if judge.kind == "reward" else "",
        )  # fmt: skip
    if getattr(settings, "served", None) is not None:
        raise UsageError(f"{task.judge}: its model lies behind a server", expected="a judge whose weights are here")
    if settings.compression is not None:
        raise UsageError(
            f"{task.judge} is compressed already ({settings.compression.method})",
            expected="the judge that it was made of",
        )
    if settings.quantize:
        raise UsageError(
            f"{task.judge}: its adapter was trained on a base in 4 bits ({settings.quantize})",
            expected="a judge with plain weights, so that they are rounded once and not twice",
            mend=f"tiebreak combine merge {task.judge} -o MERGED, then compress that",
        )
    # What is measured is the weights, not what runs them.
    generative = judge.kind == "generative"
    judge.run_with(replace(task.runtime, backend="transformers") if generative else task.runtime)
    return judge


def identity(task: Task, chosen: pl.DataFrame, validation: pl.DataFrame, made_in: Environment | None) -> dict[str, Any]:
    """What the stages depend on, but for --force."""
    return {
        "judge": storage.sha256(task.judge / bundle.MANIFEST), "method": task.method, "grid": task.grid,
        "calibration": comparisons.fingerprint(chosen), "validation": comparisons.fingerprint(validation),
        "runtime": asdict(task.runtime), "versions": made_in.versions if made_in is not None else {},
    }  # fmt: skip
