"""An evaluation: everything that was measured, ready to print, to hold against gates, and to write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

import tiebreak
from tiebreak.evaluation.audits import Audit
from tiebreak.evaluation.baselines import Baseline
from tiebreak.evaluation.comparison import Comparison
from tiebreak.evaluation.ledger import Ledger
from tiebreak.evaluation.slices import Slice
from tiebreak.scoring.bootstrap import LEVEL, Estimate

SCHEMA_VERSION: Final = 1
DIGITS: Final = 9
"""Decimals in JSON: enough for anybody, and few enough to hide in which order a machine adds."""


@dataclass(frozen=True)
class Counts:
    """How many votes went in, and how many of them could be scored.

    Attributes:
        votes: Rows of the file of votes.
        scored: Rows with a label and a weight above 0: all figures are about these.
        unlabelled: Rows left out because they have no label.
        weightless: Rows left out because their weight is 0.
        soft: Scored rows whose label is soft.
        groups: Groups among the scored rows.
        truncated: Scored rows whose text the judge had to cut.
        impossible: Scored rows that got the vote the judge gave (nearly) no chance: probability below 1e-15.
    """

    votes: int
    scored: int
    unlabelled: int
    weightless: int
    soft: int
    groups: int
    truncated: int
    impossible: int


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How good predictions are on votes, with 95 % intervals by group bootstrap. Made by `tiebreak.evaluate`.

    Attributes:
        name: Name of the predictions.
        counts: How many votes went in and were scored.
        resamples: Resamples behind each interval.
        seed: Their seed.
        fingerprints: sha256 of each table that went in.
        metrics: Name to `Estimate`; the names are those of `tiebreak.evaluation.scores.NAMES`.
        calibrated_ece: The ECE that a perfectly calibrated judge would show by chance.
        baselines: What needs no judge, on the same votes.
        comparison: Paired differences from another judge, or None.
        slices: The same on parts of the votes.
        left_out: Slices that the votes do not allow, with the reason.
        audits: `position`, `length`, `tie`.
        curves: The table behind each picture.
        surprises: The votes with the largest log-loss.
        remarks: Sentences that readers must see before the figures.
        ledger: What the judge saw of the texts, if it counts tokens.
    """

    name: str
    counts: Counts
    resamples: int
    seed: int
    fingerprints: dict[str, str]
    metrics: dict[str, Estimate]
    calibrated_ece: Estimate
    baselines: dict[str, Baseline]
    comparison: Comparison | None
    slices: list[Slice]
    left_out: dict[str, str]
    audits: dict[str, Audit]
    curves: dict[str, pl.DataFrame]
    surprises: pl.DataFrame
    remarks: tuple[str, ...]
    ledger: Ledger | None = None

    def __repr__(self) -> str:
        prior = self.baselines["prior"].metrics["log_loss"]
        lines = [
            f"Evaluation of {self.name} on {self.counts.scored:,} votes in {self.counts.groups:,} groups "
            f"({self.counts.unlabelled:,} without label left out)",
            f"  log_loss  {self.metrics['log_loss']}  (class prior {prior.value:.4f})",
            *(f"  {name:<9} {self.metrics[name]}" for name in ("accuracy", "macro_f1", "brier", "ece")),
        ]
        if self.comparison:
            lines.append(f"  against {self.comparison.other}: {self.comparison.difference['log_loss']} log_loss")
        return "\n".join(lines)

    @staticmethod
    def versions() -> dict[str, str]:
        """What computed the figures."""
        return {"tiebreak": tiebreak.__version__, "numpy": np.__version__, "polars": pl.__version__}

    def figures(self) -> dict[str, Estimate]:
        """Every figure that a gate can name: metrics, audits, `difference.*` and `NAME.difference` of baselines."""
        found = dict(self.metrics)
        for audit in self.audits.values():
            found |= audit.figures
        for name, baseline in self.baselines.items():
            if baseline.difference is not None:
                found[f"{name}.difference"] = baseline.difference
        if self.comparison:
            found |= {f"difference.{name}": value for name, value in self.comparison.difference.items()}
        if self.ledger:
            found |= self.ledger.figures
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but curves and texts, as plain JSON values; figures that are not defined are null."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "versions": self.versions(),
            "name": self.name,
            "remarks": self.remarks,
            "counts": self.counts,
            "interval": {"level": LEVEL, "method": "percentile bootstrap by group", "resamples": self.resamples,
                         "seed": self.seed},
            "fingerprints": self.fingerprints,
            "metrics": self.metrics,
            "ece_if_calibrated": self.calibrated_ece,
            "baselines": self.baselines,
            "comparison": self.comparison,
            "audits": self.audits,
            "ledger": self.ledger,
            "slices": [_plain(part) | {"small": part.small} for part in self.slices],
            "slices_left_out": self.left_out,
            "surprises": self.surprises.drop("prompt", "response_a", "response_b", strict=False).to_dicts(),
        }  # fmt: skip
        plain: dict[str, Any] = _plain(document)
        return plain

    def to_json(self) -> str:
        """`to_dict` as text. The same inputs, seed and versions give the same bytes."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, directory: str | Path) -> Path:
        """Write `index.html`, `metrics.json` and `csv/*.csv`, whole or not at all.

        Args:
            directory: The report; replaced where it exists and is a report.

        Returns:
            The path of `index.html`.

        Raises:
            UsageError: The parent does not exist, or the directory holds something else than a report.
            ResourceError: The disk is full or the place cannot be written.
        """
        from tiebreak.evaluation import report

        return report.write(self, Path(directory))


def _plain(value: Any) -> Any:
    """Dataclasses, numpy numbers and NaN as JSON knows them."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return round(float(value), DIGITS) if np.isfinite(value) else None
    return value
