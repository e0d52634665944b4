"""What averaging costs: every candidate and every judge on the same votes, all differences paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.calibrate.rows import groups_of
from tiebreak.errors import DataError
from tiebreak.judges import Judge, Runtime
from tiebreak.scoring import Bootstrap, Estimate, row_log_loss

CHUNK: Final = 256
"""Rows scored between two steps of a progress bar."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Figures:
    """What one set of predictions is worth on the validation votes.

    Attributes:
        log_loss: With its interval.
        change: The same minus that of the mean of probabilities, paired: above 0 it is worse.
        verdict_changes: Rows whose verdict is another than that of the mean of probabilities.
        swap_gap: Mean over the rows; None where one order was judged.
        size: Bytes of the weights that a bundle holds; None where there is none.
        svd_error: Relative Frobenius error of all modules as one vector.
        interference: Cross terms relative to the exact mean, likewise.
    """

    log_loss: Estimate
    change: Estimate
    verdict_changes: int
    swap_gap: float | None = None
    size: int | None = None
    svd_error: float | None = None
    interference: float | None = None

    def document(self) -> dict[str, Any]:
        """As JSON values: estimates as [value, low, high]; what does not apply is left out."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        estimates = ("log_loss", "change")
        return found | {name: [_finite(part) for part in found[name].values()] for name in estimates}


class Votes:
    """Validation votes, on which everything is measured with the same resamples.

    Args:
        table: Comparisons; rows without a label are left out.
        seed: Of the resamples.

    Attributes:
        table: The rows with a label.
        rows: How many.
        groups: Groups of rows.

    Raises:
        DataError: No row has a label.
    """

    def __init__(self, table: pl.DataFrame, *, seed: int = 0) -> None:
        known = ~np.isnan(comparisons.targets(table)).any(axis=1)
        if not known.any():
            raise DataError(
                f"none of {table.height:,} validation rows has a label", expected="votes: a label or p_a, p_b, p_tie"
            )
        self.table = table.filter(pl.Series(known))
        self.rows = self.table.height
        self._targets = comparisons.targets(self.table)
        self._weights = self.table["weight"].fill_null(1.0).to_numpy()
        self._bootstrap = Bootstrap(groups_of(self.table).to_numpy(), seed=seed)
        self.groups = self._bootstrap.groups

    def draws(self, probabilities: np.ndarray) -> np.ndarray:
        """Log-loss on the data (index 0) and on every resample."""
        losses = row_log_loss(probabilities, self._targets) * self._weights
        draws: np.ndarray = self._bootstrap.sum(losses) / self._bootstrap.sum(self._weights)
        return draws

    def prior(self) -> np.ndarray:
        """The class shares of these votes, said of every row."""
        shares = self._weights @ self._targets / self._weights.sum()
        return np.tile(shares, (self.rows, 1))

    def figures(self, probabilities: np.ndarray, reference: np.ndarray, **others: Any) -> Figures:
        """The figures of one set of probabilities (rows, 3) beside the mean of the judges' probabilities."""
        draws = self.draws(probabilities)
        changed = predictions.verdicts(probabilities) != predictions.verdicts(reference)
        return Figures(
            Estimate.of(draws), Estimate.of(draws - self.draws(reference)), int(changed.sum()), **others
        )  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """What a judge said of the rows.

    Attributes:
        probabilities: float64 (rows, 3).
        swap_gap: Mean over the rows that were judged in both orders; None where there is none.
    """

    probabilities: np.ndarray
    swap_gap: float | None


def score(judge: Judge, table: pl.DataFrame, runtime: Runtime, advance: Advance, *, calibrated: bool = False) -> Scored:
    """Score rows and let the weights go again.

    Args:
        judge: The judge.
        table: Comparisons.
        runtime: Devices, precision, lengths.
        advance: Told how many rows were scored.
        calibrated: Whether the calibration of the bundle is applied.
    """
    runtime = here(judge, runtime)
    judge.run_with(runtime)
    manifest = judge.manifest
    if not calibrated:
        judge.manifest = manifest.model_copy(update={"calibration": None})
    parts = []
    try:
        for chunk in table.iter_slices(CHUNK):
            parts.append(judge.predict(chunk))
            advance(chunk.height)
    finally:
        judge.manifest = manifest
        judge.run_with(runtime)  # drops the network
    said = pl.concat(parts)
    gap = said["swap_gap"].mean()
    return Scored(predictions.probabilities(said), float(gap) if isinstance(gap, float) else None)


def here(judge: Judge, runtime: Runtime) -> Runtime:
    """The same choices, with weights read by transformers: what is measured is the weights, not what runs them."""
    return replace(runtime, backend="transformers") if judge.kind == "generative" else runtime


def choose(draws: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> str:
    """The best method: the smallest bundle among those that the lowest log-loss does not beat beyond its interval.

    Of two that are equally large the one with the lower log-loss.

    Args:
        draws: Log-loss of each method on the data and on the resamples.
        sizes: Bytes of each.
    """
    lowest = min(draws, key=lambda name: float(draws[name][0]))
    near = [name for name in draws if not Estimate.of(draws[name] - draws[lowest]).low > 0]
    return min(near, key=lambda name: (sizes[name], float(draws[name][0])))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
