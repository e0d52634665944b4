"""Tie models of reward judges, judged by the same nested cross-validation as calibrations, and kept in a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from pydantic import JsonValue

from tiebreak import bundle, predictions
from tiebreak.calibrate import alarm
from tiebreak.calibrate.candidates import Fitted
from tiebreak.calibrate.document import summary
from tiebreak.calibrate.nested import Study, compare
from tiebreak.calibrate.rows import Rows, labels_of
from tiebreak.calibrate.tie_models import TieRows, fit
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.reward import FAMILIES, Family, Layer
from tiebreak.judges.reward import lengths as lengths_of

LENGTH: Final = "-length"

TIE_METHODS: Final = (*FAMILIES, *(f"{family}{LENGTH}" for family in FAMILIES))
"""From the fewest parameters to the most."""


@dataclass(frozen=True)
class TieModel:
    """A tie model as a candidate of `tiebreak.calibrate.nested.compare`."""

    family: Family
    length: bool

    @property
    def name(self) -> str:
        """As users type it."""
        return f"{self.family}{LENGTH * self.length}"

    @property
    def parameters(self) -> int:
        """How many numbers the data decide."""
        return 2 + self.length

    @property
    def has_bias(self) -> bool:
        """Without ties in the votes the tie parameter has no finite value."""
        return True

    def fit(self, rows: TieRows, seed: int) -> Fitted:
        """The likeliest layer for these rows.

        Raises:
            CollapseError: There is none.
        """
        layer, intervals = fit(rows, self.family, length=self.length)

        def apply(other: Rows) -> np.ndarray:
            assert isinstance(other, TieRows)  # noqa: S101 - `compare` takes from what it was given
            return layer.probabilities(other.rewards, other.lengths)

        return Fitted(apply, tuple(_faults(layer, rows)), layer=layer, intervals=intervals)


def _faults(layer: Layer, rows: TieRows) -> list[str]:
    """What is wrong with a layer on the rows it was fitted to; the same alarm as of calibrations."""
    if np.ptp(rows.rewards) < alarm.CONSTANT:
        return ["the reward model says the same of every pair"]
    left = alarm.information(layer.probabilities(rows.rewards, rows.lengths), rows.weights)
    if left < alarm.MINIMUM_INFORMATION:
        return [
            f"the fitted predictions are hardly more than a constant (information {left:.5f} nats, at least "
            f"{alarm.MINIMUM_INFORMATION} wanted; scale {layer.scale:.2g})"
        ]
    if layer.scale < 0:
        return [f"the scale is negative ({layer.scale:.3g}): the reward model's verdict would be turned round"]
    return []


def tie_rows(rewards: np.ndarray, votes: pl.DataFrame, before: np.ndarray) -> TieRows:
    """Rows to fit tie models to.

    Args:
        rewards: Score of A minus that of B, one a vote.
        votes: The votes in the same order; with texts, or length differences are all 0.
        before: Probabilities as they came, (rows, 3), to compare with.

    Raises:
        DataError: No vote has a label.
    """
    targets, groups, weights = labels_of(votes)
    used = ~np.isnan(targets).any(axis=1) & (weights != 0)
    rows = Rows.of(before[used], targets[used], groups[used], weights[used])
    lengths = lengths_of(votes) if has_answers(votes) else np.zeros(votes.height)
    return TieRows(rows.probabilities, rows.targets, rows.groups, rows.weights, rewards[used], lengths[used])


def has_answers(votes: pl.DataFrame) -> bool:
    """Whether there are texts to take the length of."""
    return {"response_a", "response_b"} <= set(votes.columns)


def rewards_of(table: pl.DataFrame, votes: pl.DataFrame, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Differences of scores out of a reward judge's predictions, one a vote, and the predictions in that order.

    Args:
        table: Predictions, before any calibration.
        votes: The votes they are for.
        layer: The layer that made them; it is undone.

    Raises:
        DataError: Ids do not match, the layer has no scale, or has a length term and the votes no texts.
    """
    p = predictions.probabilities(predictions.align(predictions.validate(table), votes))
    if layer.scale == 0:
        raise DataError("the layer of the judge has scale 0: the scores are lost in its predictions")
    if layer.length and not has_answers(votes):
        raise DataError(
            "the layer of the judge counts lengths, and these votes have no texts", expected="--labels with the texts"
        )
    lengths = lengths_of(votes) if layer.length else np.zeros(votes.height)
    return (layer.margins(p) - layer.length * lengths) / layer.scale, p


def study_ties(
    rows: TieRows, *, folds: int = 5, repeats: int = 1, seed: int = 0, force: bool = False,
    advance: Callable[[int], None] = lambda step: None,
) -> Study:  # fmt: skip
    """Judge every tie model by nested, grouped cross-validation and fit each to all rows.

    Raises:
        DataError: There are fewer groups than folds.
    """
    lengthy = bool(np.ptp(rows.lengths) > 0)
    candidates = [TieModel(family, length) for length in (False, True)[: 1 + lengthy] for family in FAMILIES]
    return compare(rows, candidates, folds=folds, repeats=repeats, seed=seed, force=force, advance=advance)


def choose(study: Study, method: str) -> str:
    """The tie model that is meant: `auto` is the best of them, also where leaving the scores as they are is as good.

    Raises:
        UsageError: There is no such tie model.
        DataError: It could not be fitted.
    """
    fitted = [name for name in TIE_METHODS if name in study.results]
    if method == "auto" and fitted:
        return study.best if study.best in fitted else min(fitted, key=lambda n: study.results[n].log_loss.value)
    if method not in (*TIE_METHODS, "auto"):
        raise UsageError(f"tie model {method!r}", expected=f"one of {', '.join((*TIE_METHODS, 'auto'))}")
    if method not in fitted:
        reasons = study.skipped or {method: "there are no texts to take the length of"}
        raise DataError(reasons.get(method) or next(iter(reasons.values())))
    return method


def into_bundle(study: Study, method: str, source: Path, target: Path, *, force: bool = False) -> list[str]:
    """Write a copy of a reward judge with the fitted layer; a calibration that it had is left out: it was of another.

    Returns:
        The faults that were overruled.

    Raises:
        CollapseError: The alarm has something against it and `force` is not given.
        BundleError: The source is no bundle, or is damaged.
    """
    name = choose(study, method)
    result = study.results[name]
    if not force:
        alarm.refuse(list(result.faults), f"the {name} model")
    assert result.layer is not None  # noqa: S101 - `choose` gives fitted ones
    manifest = bundle.read(source)
    figures: dict[str, JsonValue] = {**summary(study), "forced": list(result.faults)}
    changed = manifest.model_copy(
        update={
            "settings": {**manifest.settings, "layer": result.layer.model_dump(mode="json")},
            "calibration": None,
            "metrics": {**manifest.metrics, "calibration": figures},
        }
    )
    files: dict[str, bytes | Path] = {file: source / file for file in manifest.files}
    bundle.write(target, changed, files)
    return list(result.faults)
