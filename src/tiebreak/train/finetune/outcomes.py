"""What a run leaves behind: bundles, figures, and what they say of the votes that were held out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import JsonValue

from tiebreak import predictions, storage
from tiebreak.errors import DataError
from tiebreak.train.finetune import doctor
from tiebreak.train.finetune.working import DONE, PREDICTIONS, Place

OOF: Final = "oof.parquet"
METRICS: Final = "metrics.json"


@dataclass(frozen=True)
class Outcome:
    """What a run left behind.

    Attributes:
        bundle: `output`: the judge bundle itself; with folds, a folder with the bundles `fold-0`, `fold-1`, ..., the
            table `oof.parquet` and `metrics.json`.
        bundles: The judge bundles, one a training.
        oof: With folds, the out-of-fold predictions: a row for each row that was held out in some fold, in the order of
            the training table, with the column `fold`. None without folds.
        validation: Predictions of the bundle for the held-out rows; with folds, the same as `oof`. None where nothing
            was held out.
        held_out: The comparisons that `validation` belongs to, row by row.
        metrics: Figures of each training.
        warnings: What the doctor found, and what was left out.
    """

    bundle: Path
    bundles: list[Path]
    oof: pl.DataFrame | None
    validation: pl.DataFrame | None
    held_out: pl.DataFrame | None
    metrics: dict[str, JsonValue]
    warnings: list[str]


def collect(places: list[Place], output: Path, notes: list[str]) -> Outcome:
    """Read what the trainings left, and with folds put the held-out predictions into one table.

    Args:
        places: One a training.
        output: Where the bundle, or the bundles, are.
        notes: Warnings of the whole run.
    """
    done: list[dict[str, Any]] = [json.loads((one.folder / DONE).read_text(encoding="utf-8")) for one in places]
    warnings = notes + [finding for one in done for finding in one["findings"]]
    bundles = [one.target for one in places]
    if places[0].alone:
        held, path = places[0].part.validation, places[0].folder / PREDICTIONS
        scored = pl.read_parquet(path) if held is not None else None
        return Outcome(output, bundles, None, scored, held, done[0]["metrics"], warnings)
    held_out, oof = _out_of_fold(places)
    metrics = {f"fold-{place.part.fold}": one["metrics"] for place, one in zip(places, done, strict=True)}
    metrics["oof"] = doctor.summary(oof, held_out)
    return Outcome(output, bundles, oof, oof, held_out, metrics, warnings)


def write(outcome: Outcome) -> None:
    """Put the out-of-fold predictions and the figures beside the bundles; those of a run with more folds go."""
    if outcome.oof is None:
        return
    for left in set(outcome.bundle.glob("fold-*")) - set(outcome.bundles):
        shutil.rmtree(left)
    with storage.replacing(outcome.bundle / OOF) as aside:
        outcome.oof.write_parquet(aside)
    document = {"metrics": outcome.metrics, "warnings": outcome.warnings}
    storage.write_text(outcome.bundle / METRICS, json.dumps(document, indent=1) + "\n")


def _out_of_fold(places: list[Place]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The held-out rows of all folds in the order of the votes, and their predictions with the column `fold`."""
    tables, scored = [], []
    for place in places:
        part = place.part
        if part.validation is None or part.order is None:
            raise DataError(f"fold {part.fold} holds nothing out")
        at = pl.Series("row", part.order)
        tables.append(part.validation.with_columns(at))
        found = predictions.align(pl.read_parquet(place.folder / PREDICTIONS), part.validation)
        scored.append(found.with_columns(pl.lit(part.fold, pl.Int64).alias("fold"), at))
    return (pl.concat(tables).sort("row").drop("row"), pl.concat(scored).sort("row").drop("row"))
