"""The stages in `OUTPUT.run`, each whole or not there: the same command goes on with those it finds."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions, storage
from tiebreak.compress import calibrating, checkpoint, quantising
from tiebreak.compress.environment import Environment
from tiebreak.compress.listening import Listener
from tiebreak.compress.methods import Method, group_size
from tiebreak.compress.task import Task
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.finetuned.making import CARD

WEIGHTS: Final = ("*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", CARD)
"""Files of a bundle that a compressed one has of its own."""

NF4_GROUP: Final = 64
"""Weights that share a scale in bitsandbytes."""

IDENTITY: Final = "identity.json"
LOCK: Final = "lock"
CHUNK: Final = 64
"""Validation rows judged at a time: as often does the progress move."""


def begin(work: Path, identity: dict[str, Any], listener: Listener) -> None:
    """Keep the stages of the same task; those of another one go."""
    path = work / IDENTITY
    text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        listener.say(f"going on with the work in {work}")
        return
    for found in work.iterdir():
        if found.name != LOCK:
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    storage.write_text(path, text)


def weights(
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
        shape["group"] = _group(method, shape["widths"])
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


def _group(method: Method, widths: list[int]) -> int | None:
    if not method.grouped:
        return None
    return group_size(set(widths)) if method.calibrated else NF4_GROUP


def _files(judge: FinetunedJudge, task: Task, method: Method, work: Path, prefix: str, folder: Path) -> None:
    if method.calibrated:
        checkpoint.assemble(work / "plain", work / "quantised", folder, prefix)
    else:
        checkpoint.write_nf4(work / "plain", judge.settings, judge.kind, folder)
    for name in judge.manifest.files:
        if not any(fnmatch(name, pattern) for pattern in WEIGHTS):
            shutil.copyfile(task.judge / name, folder / name)


def original(
    work: Path, judge: FinetunedJudge, validation: pl.DataFrame, listener: Listener
) -> tuple[np.ndarray, dict[str, Any]]:
    """What the judge itself says, of which a second run knows."""
    table, speed = work / "original.parquet", work / "original.json"
    if not speed.is_file():
        probabilities, found = predict(judge, validation, "original", listener)
        with storage.replacing(table) as aside:
            pl.DataFrame(probabilities, schema=list(comparisons.SOFT)).write_parquet(aside)
        storage.write_text(speed, json.dumps(found))
    probabilities = pl.read_parquet(table).to_numpy().astype(np.float64)
    return probabilities, json.loads(speed.read_text(encoding="utf-8"))


def predict(
    judge: FinetunedJudge, table: pl.DataFrame, what: str, listener: Listener
) -> tuple[np.ndarray, dict[str, Any]]:
    """Calibrated probabilities (rows, 3), and how fast they came once the weights were there."""
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
