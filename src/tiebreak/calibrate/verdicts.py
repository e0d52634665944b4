"""What written verdicts are worth: the table of a judge that reads prose, judged by nested cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from pydantic import JsonValue

from tiebreak import bundle
from tiebreak.calibrate import alarm
from tiebreak.calibrate.candidates import Fitted
from tiebreak.calibrate.document import summary
from tiebreak.calibrate.nested import Study, compare
from tiebreak.calibrate.rows import Rows, labels_of
from tiebreak.errors import DataError
from tiebreak.judges.generative.reading import Reading
from tiebreak.judges.generative.verdict_table import VerdictTable

METHOD: Final = "verdicts"


@dataclass(frozen=True)
class VerdictRows(Rows):
    """Labelled rows with what was read for them.

    Attributes:
        verdicts: int64 (rows, samples, orders), as of `VerdictTable`.
    """

    verdicts: np.ndarray

    def take(self, chosen: np.ndarray) -> VerdictRows:
        """The rows of a mask or of indices, with groups numbered anew."""
        groups = np.unique(self.groups[chosen], return_inverse=True)[1].reshape(-1)
        return VerdictRows(
            self.probabilities[chosen], self.targets[chosen], groups, self.weights[chosen], self.verdicts[chosen]
        )


@dataclass(frozen=True)
class Table:
    """The table of verdicts as a candidate of `tiebreak.calibrate.nested.compare`."""

    orders: int
    name: str = METHOD
    has_bias: bool = True

    @property
    def parameters(self) -> int:
        """Free shares of the cells that are not mirror images of others."""
        return 16 if self.orders == 2 else 4

    def fit(self, rows: VerdictRows, seed: int) -> Fitted:
        """The table of these rows."""
        table = table_of(rows)

        def apply(other: Rows) -> np.ndarray:
            assert isinstance(other, VerdictRows)  # noqa: S101 - `compare` takes from what it was given
            return probabilities(table, other.verdicts)

        left = alarm.information(apply(rows), rows.weights)
        faults = () if left >= alarm.MINIMUM_INFORMATION else (
            f"the verdicts say hardly more than a constant (information {left:.5f} nats, at least "
            f"{alarm.MINIMUM_INFORMATION} wanted)",
        )  # fmt: skip
        return Fitted(apply, faults)


def table_of(rows: VerdictRows) -> VerdictTable:
    """The table of labelled rows; of several samples of a row each counts its share."""
    samples = rows.verdicts.shape[1]
    flat = rows.verdicts.reshape(-1, rows.verdicts.shape[2])
    return VerdictTable.fitted(
        flat, np.repeat(rows.targets, samples, axis=0), np.repeat(rows.weights, samples) / samples
    )


def probabilities(table: VerdictTable, verdicts: np.ndarray) -> np.ndarray:
    """The mean over samples, float64 (rows, 3), of verdicts (rows, samples, orders)."""
    each = np.array([table.probabilities(sample) for sample in verdicts.transpose(1, 0, 2)])
    return np.asarray(each.mean(axis=0))


def verdict_rows(verdicts: np.ndarray, votes: pl.DataFrame, table: VerdictTable) -> VerdictRows:
    """Rows to fit a table to.

    Args:
        verdicts: (rows, samples, orders) of all votes, in their order.
        votes: The votes.
        table: The table that the judge has, to compare with.

    Raises:
        DataError: No vote has a label.
    """
    targets, groups, weights = labels_of(votes)
    used = ~np.isnan(targets).any(axis=1) & (weights != 0)
    before = probabilities(table, verdicts)
    rows = Rows.of(before[used], targets[used], groups[used], weights[used])
    return VerdictRows(rows.probabilities, rows.targets, rows.groups, rows.weights, verdicts[used])


def study_verdicts(
    rows: VerdictRows, *, folds: int = 5, repeats: int = 1, seed: int = 0, force: bool = False,
    advance: Callable[[int], None] = lambda step: None,
) -> Study:  # fmt: skip
    """Judge the table by nested, grouped cross-validation and fit it to all rows.

    Raises:
        DataError: There are fewer groups than folds.
    """
    candidates = [Table(rows.verdicts.shape[2])]
    return compare(rows, candidates, folds=folds, repeats=repeats, seed=seed, force=force, advance=advance)


def into_bundle(study: Study, source: Path, target: Path, *, force: bool = False) -> list[str]:
    """Write a copy of a judge with the fitted table; a calibration that it had is left out: it was of another.

    Returns:
        The faults that were overruled.

    Raises:
        CollapseError: The alarm has something against it and `force` is not given.
        DataError: There were too few votes.
    """
    if METHOD not in study.results:
        raise DataError(study.skipped.get(METHOD, "no table was fitted"))
    faults = list(study.results[METHOD].faults)
    if not force:
        alarm.refuse(faults, "the table of verdicts")
    assert isinstance(study.rows, VerdictRows)  # noqa: S101 - of `study_verdicts`
    manifest = bundle.read(source)
    reading = Reading.model_validate(manifest.settings.get("reading") or {})
    fitted = reading.model_copy(update={"table": table_of(study.rows)})
    figures: dict[str, JsonValue] = {**summary(study), "forced": list(faults)}
    changed = manifest.model_copy(
        update={
            "settings": {**manifest.settings, "reading": fitted.model_dump(mode="json")},
            "calibration": None,
            "metrics": {**manifest.metrics, "calibration": figures},
        }
    )
    bundle.write(target, changed, {file: source / file for file in manifest.files})
    return faults
