"""A calibration kept as a file of its own, or put into a judge bundle: plain JSON numbers, with what they are worth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

import tiebreak
from tiebreak import bundle, storage
from tiebreak.calibrate import alarm
from tiebreak.calibrate.nested import Result, Study
from tiebreak.calibrate.words import in_words
from tiebreak.calibration import Calibration
from tiebreak.errors import DataError
from tiebreak.scoring import Estimate

FIGURES: Final = ("log_loss", "brier", "ece", "accuracy", "change", "against_prior")


class Document(BaseModel):
    """What a calibration file holds.

    Attributes:
        calibration: The map.
        forced: Faults that the user overruled; such a map is accepted without asking again.
        study: What cross-validation said, as `tiebreak calibrate --json` prints it.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    calibration: Calibration
    forced: list[str] = Field(default_factory=list)
    study: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=lambda: {"tiebreak": tiebreak.__version__})


def summary(study: Study) -> dict[str, JsonValue]:
    """A study as JSON values: figures as [value, low, high]."""
    return {
        "rows": len(study.rows.probabilities),
        "groups": study.rows.group_count,
        "folds": study.folds,
        "repeats": study.repeats,
        "seed": study.seed,
        "best": study.best,
        "skipped": dict(study.skipped),
        "methods": {name: _result(result) for name, result in study.results.items()},
    }


def _result(result: Result) -> dict[str, JsonValue]:
    figures: dict[str, JsonValue] = {}
    for name in FIGURES:
        estimate: Estimate = getattr(result, name)
        figures[name] = list(dataclasses.astuple(estimate))
    words: list[JsonValue] = list(in_words(result))
    return {
        "parameters": result.parameters,
        **figures,
        "penalty": result.penalty,
        "calibration": result.calibration.model_dump(mode="json") if result.calibration else None,
        "layer": result.layer.model_dump(mode="json") if result.layer else None,
        "intervals": {name: list(dataclasses.astuple(estimate)) for name, estimate in result.intervals.items()},
        "in_words": words,
        "faults": list(result.faults),
    }


def make(study: Study, method: str, *, force: bool = False) -> Document:
    """The document of one method of a study ("auto" is the best one).

    Raises:
        CollapseError: The alarm is against it and `force` is not given.
    """
    calibration = study.calibration(method, force=force)
    faults = study.results[study.best if method == "auto" else method].faults
    return Document(calibration=calibration, forced=list(faults), study=summary(study))


def save(document: Document, path: str | Path) -> None:
    """Write a calibration file whole or not at all."""
    text = json.dumps(document.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    storage.write_text(Path(path), text + "\n")


def load(path: str | Path, *, force: bool = False) -> Calibration:
    """Read a calibration file; one that makes a constant of every judge, or turns it round, is refused.

    Args:
        path: A file written by `save`, or a bare calibration (`method`, `weight`, `bias`).
        force: Accept it whatever it does.

    Raises:
        DataError: It is no calibration file.
        CollapseError: The map should not be used, and was not forced when it was made.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(content, dict) and "weight" in content:
            content = {"calibration": content}
        document = Document.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {place}: {first['msg']}", expected="a file written by tiebreak calibrate") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", expected="a file written by tiebreak calibrate") from error
    if not (force or document.forced):
        alarm.refuse(alarm.map_faults(document.calibration), f"the calibration in {path}")
    return document.calibration


def into_bundle(document: Document, source: Path, target: Path) -> None:
    """Write a copy of a judge bundle with this calibration in its manifest.

    Raises:
        BundleError: The source is no bundle, or is damaged.
    """
    manifest = bundle.read(source)
    files: dict[str, bytes | Path] = {name: source / name for name in manifest.files}
    figures: dict[str, JsonValue] = {**document.study, "forced": list(document.forced)}
    changed = manifest.model_copy(
        update={"calibration": document.calibration, "metrics": {**manifest.metrics, "calibration": figures}}
    )
    bundle.write(target, changed, files)
