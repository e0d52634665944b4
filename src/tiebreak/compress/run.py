"""From a judge to one with fewer bits: merge, quantise, measure, and write it if it is good enough.

The stages lie in `OUTPUT.run`, each whole or not there; the same command goes on with those it finds. The bundle is
written last, in one move.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import bundle, comparisons, judges, predictions, row_hashes, storage
from tiebreak.calibrate.rows import groups_of
from tiebreak.compress import calibrating, card, checkpoint, environment, parity, quantising
from tiebreak.compress.environment import Environment
from tiebreak.compress.listening import SILENT, Listener
from tiebreak.compress.methods import Method, find, group_size
from tiebreak.compress.parity import LIMIT, Parity
from tiebreak.errors import DataError, GateError, ResourceError, UsageError
from tiebreak.judges.finetuned import Compression, FinetunedJudge
from tiebreak.judges.finetuned.making import CARD
from tiebreak.judges.runtime import Runtime
from tiebreak.predict import lock

ROWS: Final = 128
"""Calibration rows when nobody says."""

WEIGHTS: Final = ("*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", CARD)
"""Files of a bundle that a compressed one has of its own."""

IDENTITY: Final = "identity.json"
CHUNK: Final = 64
"""Validation rows judged at a time: as often does the progress move."""


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
    work = run_folder(task.output)
    storage.make_directory(work)
    held = lock.hold(work / "lock")
    if held is None:
        raise ResourceError(f"another process compresses to {task.output}", mend="wait for it, or another -o")
    with closing(held):
        _begin(work, _identity(task, chosen, validation, made_in), listener)
        folder, shape = _weights(work, task, judge, method, chosen, made_in, listener)
        after = type(judge)(_manifest(judge, folder, method, shape["group"], {}), folder)
        after.run_with(Runtime(task.runtime.max_length, task.runtime.max_tokens, devices=task.runtime.devices))
        before_p, before_speed = _original(work, judge, validation, listener)
        after_p, after_speed = _predict(after, validation, "compressed", listener)
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


def run_folder(output: Path) -> Path:
    """Where the stages lie."""
    return output.with_name(f"{output.name}.run")


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
    judge.run_with(task.runtime)
    return judge


def _identity(
    task: Task, chosen: pl.DataFrame, validation: pl.DataFrame, made_in: Environment | None
) -> dict[str, Any]:
    """What the stages depend on, but for --force."""
    return {
        "judge": storage.sha256(task.judge / bundle.MANIFEST), "method": task.method, "grid": task.grid,
        "calibration": comparisons.fingerprint(chosen), "validation": comparisons.fingerprint(validation),
        "runtime": asdict(task.runtime), "versions": made_in.versions if made_in is not None else {},
    }  # fmt: skip


def _begin(work: Path, identity: dict[str, Any], listener: Listener) -> None:
    """Keep the stages of the same task; those of another one go."""
    path = work / IDENTITY
    text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        listener.say(f"going on with the work in {work}")
        return
    for found in work.iterdir():
        if found.name != "lock":
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    storage.write_text(path, text)


def _weights(
    work: Path, task: Task, judge: FinetunedJudge, method: Method, chosen: pl.DataFrame,
    made_in: Environment | None, listener: Listener,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """The files of the new bundle but for `judge.json`, and what is known of their form."""
    shape_of, plain = work / "shape.json", work / "plain"
    if not shape_of.is_file():
        listener.say("writing the network whole, an adapter merged in fp32")
        with storage.replacing(plain) as aside:
            aside.mkdir()
            shape = checkpoint.write_plain(judge, judge.base(), task.judge, aside)
        checkpoint.check_family(shape["widths"])
        shape["group"] = group_size(set(shape["widths"])) if method.grouped and method.calibrated else None
        storage.write_text(shape_of, json.dumps(shape) + "\n")
    shape = json.loads(shape_of.read_text(encoding="utf-8"))
    if made_in is not None and not (work / "quantised").is_dir():
        quantising.write_calibration(work, calibrating.render(judge, chosen))
        quantising.write_settings(work, method, shape["group"], checkpoint.UNTOUCHED, task.grid)
        quantising.run(made_in, work, listener)
    folder = work / "bundle"
    if not folder.is_dir():
        with storage.replacing(folder) as aside:
            aside.mkdir()
            _files(judge, task, method, work, shape["prefix"], aside)
    return folder, shape


def _files(judge: FinetunedJudge, task: Task, method: Method, work: Path, prefix: str, folder: Path) -> None:
    if method.calibrated:
        checkpoint.assemble(work / "plain", work / "quantised", folder, prefix)
    else:
        checkpoint.write_nf4(work / "plain", judge.settings, judge.kind, folder)
    for name in judge.manifest.files:
        if not any(fnmatch(name, pattern) for pattern in WEIGHTS):
            shutil.copyfile(task.judge / name, folder / name)


def _manifest(
    judge: FinetunedJudge, folder: Path, method: Method, group: int | None, document: dict[str, Any]
) -> bundle.Manifest:
    done = Compression(
        method=method.name, bits=method.bits, group=group, activation_bits=method.activation_bits
    )  # fmt: skip
    settings = judge.settings.model_copy(update={"base": None, "adapter": False, "compression": done})
    metrics = {**judge.manifest.metrics, "compression": document}
    return judge.manifest.model_copy(update={"settings": settings.document(), "metrics": metrics, "files": {}})


def _original(
    work: Path, judge: FinetunedJudge, validation: pl.DataFrame, listener: Listener
) -> tuple[np.ndarray, dict[str, Any]]:
    """What the judge itself says, of which a second run knows."""
    table, speed = work / "original.parquet", work / "original.json"
    if not speed.is_file():
        probabilities, found = _predict(judge, validation, "original", listener)
        with storage.replacing(table) as aside:
            pl.DataFrame(probabilities, schema=list(comparisons.SOFT)).write_parquet(aside)
        storage.write_text(speed, json.dumps(found))
    probabilities = pl.read_parquet(table).to_numpy().astype(np.float64)
    return probabilities, json.loads(speed.read_text(encoding="utf-8"))


def _predict(
    judge: FinetunedJudge, table: pl.DataFrame, what: str, listener: Listener
) -> tuple[np.ndarray, dict[str, Any]]:
    """Calibrated probabilities (rows, 3), and how fast they came: the first rows, which load the weights, not timed."""
    judge.ready()
    parts, tokens, seconds = [], 0, 0.0
    with listener.progress(f"judge, {what}", table.height, "rows") as advance:
        for rows in table.iter_slices(CHUNK):
            parts.append(predictions.probabilities(judge.predict(rows)))
            tokens += judge.report.get("tokens_computed", 0)
            seconds += judge.report.get("seconds", 0.0)
            advance(rows.height)
    speed = {"tokens": tokens, "seconds": round(seconds, 3), "tokens_per_second": round(tokens / max(seconds, 1e-9), 1)}
    return np.concatenate(parts), {**speed, "precision": judge.report.get("precision")}


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
    if judge.kind != "classifier" or judge.settings.head.kind != "linear":
        return f"no: vLLM has no {judge.settings.head.kind} head of a {judge.kind} judge"
    return method.vllm


def _write(task: Task, judge: FinetunedJudge, folder: Path, method: Method, document: dict[str, Any]) -> None:
    manifest = _manifest(judge, folder, method, document["group"], document)
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir() if path.is_file()}
    old = task.judge / CARD
    text = old.read_text(encoding="utf-8") if old.is_file() else f"# {judge.manifest.name}\n"
    files[CARD] = card.with_compression(text, document).encode()
    bundle.write(task.output, manifest, files)
