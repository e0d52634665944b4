"""From a judge to one with fewer bits: merge, quantise, measure, and write it if it is good enough.

The stages lie in `OUTPUT.run`, each whole or not there; the same command goes on with those it finds. The bundle is
written last, in one move.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tiebreak import bundle, comparisons, row_hashes, storage
from tiebreak.calibrate.rows import groups_of
from tiebreak.compress import calibrating, card, checkpoint, environment, parity, stages
from tiebreak.compress.listening import SILENT, Listener
from tiebreak.compress.methods import Method, find
from tiebreak.compress.parity import LIMIT, Parity
from tiebreak.compress.task import Task, check, identity
from tiebreak.errors import DataError, GateError, ResourceError
from tiebreak.judges.finetuned import Compression, FinetunedJudge
from tiebreak.judges.finetuned.making import CARD
from tiebreak.predict import lock


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        parity: The figures.
        document: What `metrics["compression"]` of the bundle holds: figures, bytes, tokens/s, how it was made.
        refusal: Why the bundle was not written; None where it was.
    """

    parity: Parity
    document: dict[str, Any]
    refusal: GateError | None


def compress(task: Task, listener: Listener = SILENT) -> Outcome:
    """Compress a judge, measure what it cost, and write it unless that is too much.

    Args:
        task: What is asked for.
        listener: Told how it goes.

    Raises:
        UsageError: The judge has no network, is compressed already, or was trained on a base in 4 bits.
        DataError: There are no rows to calibrate or to measure on.
        ResourceError: No environment, memory or disk; or another process works on the same output.
    """
    method = find(task.method)
    judge = check(task)
    validation = comparisons.validate(task.validation, where="validation rows")
    chosen = calibrating.choose(comparisons.validate(task.calibration, where="calibration rows"), task.rows, task.seed)
    if not validation.height or (method.calibrated and not chosen.height):
        raise DataError("no rows to calibrate or to measure on", expected="votes in both files")
    made_in = environment.find(task.python, listener) if method.calibrated else None
    work = task.run_folder
    storage.make_directory(work)
    held = lock.hold(work / stages.LOCK)
    if held is None:
        raise ResourceError(f"another process compresses to {task.output}", mend="wait for it, or another -o")
    with closing(held):
        stages.begin(work, identity(task, chosen, validation, made_in), listener)
        folder, shape = stages.weights(work, task, judge, method, chosen, made_in, listener)
        before_p, before_speed = stages.original(work, judge, validation, listener)
        judge.run_with(judge.runtime)  # lets go of its weights
        after = type(judge)(_manifest(judge, method, shape["group"], {}), folder)
        after.run_with(replace(judge.runtime, base=None))
        after_p, after_speed = stages.predict(after, validation, "compressed", listener)
        found = _measure(before_p, after_p, validation)
        refusal = None if found.passed else _refusal(found, work, task)
        document = {
            **found.document(),
            "method": method.name, "bits": method.bits, "group": shape["group"],
            "activation_bits": method.activation_bits, "limit": LIMIT, "forced": refusal is not None and task.force,
            "bytes": {"original": checkpoint.size(work / "plain"), "compressed": checkpoint.size(folder)},
            "speed": {"original": before_speed, "compressed": after_speed},
            "calibration_rows": chosen.height if method.calibrated else 0,
            "calibration_rows_in_validation": calibrating.overlap(validation, chosen) if method.calibrated else 0,
            "validation_rows_trained_on": _trained_on(task.judge, validation),
            "made_with": made_in.versions if made_in is not None else {},
            "vllm": _vllm(judge, method),
        }  # fmt: skip
        if refusal is not None and not task.force:
            return Outcome(found, document, refusal)
        _write(task, judge, folder, method, document)
    shutil.rmtree(work, ignore_errors=True)
    return Outcome(found, document, None)


def _manifest(judge: FinetunedJudge, method: Method, group: int | None, document: dict[str, Any]) -> bundle.Manifest:
    done = Compression(method=method.name, bits=method.bits, group=group, activation_bits=method.activation_bits)
    settings = judge.settings.model_copy(update={"base": None, "adapter": False, "compression": done})
    metrics = {**judge.manifest.metrics, "compression": document}
    return judge.manifest.model_copy(update={"settings": settings.document(), "metrics": metrics, "files": {}})


def _measure(before: np.ndarray, after: np.ndarray, validation: pl.DataFrame) -> Parity:
    return parity.measure(
        before, after, comparisons.targets(validation), groups_of(validation).to_numpy(),
        validation["weight"].fill_null(1.0).to_numpy(),
    )  # fmt: skip


def _refusal(found: Parity, work: Path, task: Task) -> GateError:
    return GateError(
        f"{task.method} costs {found.change} nats of log-loss on {found.labelled:,} rows: not written",
        expected=f"a change of at most {LIMIT}",
        mend=f"more bits, or more --rows; the same command with --force writes it all the same, and records that "
        f"({work} holds the work)",
    )


def _trained_on(judge: Path, validation: pl.DataFrame) -> int | None:
    """How many of the rows the judge was trained on; None where its bundle does not say."""
    trained = row_hashes.read_trained(judge)
    return None if trained is None else int(row_hashes.unordered(validation).is_in(list(trained)).sum())


def _vllm(judge: FinetunedJudge, method: Method) -> str:
    """Where vLLM loads the bundle."""
    if judge.kind == "generative":
        return method.vllm
    if judge.kind != "classifier" or judge.settings.head.kind != "linear":
        return f"no: vLLM has no {judge.settings.head.kind} head of a {judge.kind} judge"
    return method.vllm


def _write(task: Task, judge: FinetunedJudge, folder: Path, method: Method, document: dict[str, Any]) -> None:
    manifest = _manifest(judge, method, document["group"], document)
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir() if path.is_file()}
    old = task.judge / CARD
    text = old.read_text(encoding="utf-8") if old.is_file() else f"# {judge.manifest.name}\n"
    files[CARD] = card.with_compression(text, document).encode()
    bundle.write(task.output, manifest, files)
