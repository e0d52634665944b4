"""The ladder: how good each step of a chain is, on the same votes, and what each step brought over the one before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions, storage
from tiebreak.errors import DataError, UsageError
from tiebreak.evaluation import sample
from tiebreak.evaluation.run import with_texts
from tiebreak.evaluation.sample import Sample
from tiebreak.scoring import Estimate, metrics

PRIOR: Final = "prior"
VERSION: Final = 1
_FILES: Final = {"index.html", "ladder.json", "ladder.csv", "ladder.svg"}


@dataclass(frozen=True)
class Rung:
    """One step.

    Attributes:
        name: What it is.
        log_loss: With its 95 % interval.
        change: Log-loss minus that of the rung before, on the same resamples; below 0 is better. None for the first.
        gain: Log-loss minus that of the prior.
        accuracy: Share of verdicts that are the vote.
        ece: Calibration error of the verdict, 15 bins of equal weight.
    """

    name: str
    log_loss: Estimate
    change: Estimate | None
    gain: Estimate | None
    accuracy: Estimate
    ece: float


@dataclass(frozen=True)
class Ladder:
    """All rungs on one set of votes.

    Attributes:
        votes: Votes that were scored.
        groups: Groups that the intervals resample.
        prior: Class shares that the first rung says of every row.
        rungs: From the prior on, in the order given.
    """

    votes: int
    groups: int
    prior: tuple[float, float, float]
    rungs: list[Rung]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is not defined is null."""
        return {
            "schema_version": VERSION,
            "votes": self.votes,
            "groups": self.groups,
            "prior": [_round(share) for share in self.prior],
            "rungs": [
                {
                    "name": rung.name,
                    **{name: _plain(getattr(rung, name)) for name in ("log_loss", "change", "gain", "accuracy")},
                    "ece": _round(rung.ece),
                }
                for rung in self.rungs
            ],
        }

    def frame(self) -> pl.DataFrame:
        """A row a rung."""
        rows = []
        for rung in self.rungs:
            row: dict[str, Any] = {"name": rung.name}
            for name in ("log_loss", "change", "gain", "accuracy"):
                found = _plain(getattr(rung, name)) or dict.fromkeys(("value", "low", "high"))
                row |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
            rows.append({**row, "ece": _round(rung.ece)})
        return pl.DataFrame(rows, infer_schema_length=None)

    def write(self, directory: Path) -> Path:
        """Write `index.html`, `ladder.json`, `ladder.csv` and `ladder.svg`, whole or not at all.

        Raises:
            UsageError: The directory holds something else.
            ResourceError: The place cannot be written.
        """
        from tiebreak.flow import ladder_page

        if directory.exists() and not (directory.is_dir() and {path.name for path in directory.iterdir()} <= _FILES):
            raise UsageError(f"{directory} exists and is no ladder", expected="a new place for it")
        with storage.replacing(directory) as aside:
            aside.mkdir()
            (aside / "index.html").write_text(ladder_page.render(self), encoding="utf-8")
            (aside / "ladder.svg").write_bytes(ladder_page.picture(self))
            (aside / "ladder.json").write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", "utf-8")
            (aside / "ladder.csv").write_text(self.frame().write_csv(), encoding="utf-8")
        return directory / "index.html"


def ladder(
    rungs: Mapping[str, pl.DataFrame], votes: pl.DataFrame, *, prior: pl.DataFrame | None = None,
    resamples: int = 1000, seed: int = 0,
) -> Ladder:  # fmt: skip
    """Measure predictions step by step.

    Args:
        rungs: Name -> validated predictions, in order; rows of other comparisons are left out.
        votes: Comparisons with labels, or ids and labels.
        prior: Votes whose class shares are the first rung, such as those that were trained on; None: these very votes.
        resamples: Resamples behind each interval.
        seed: Their seed.

    Raises:
        DataError: A rung lacks a comparison, an id occurs twice, or no vote has a label.
    """
    table = comparisons.validate(with_texts(votes), where="votes")
    if table["id"].is_duplicated().any():
        raise DataError("an id occurs more than once among the votes", expected="ids that tell comparisons apart")
    aligned = {name: _aligned(name, found, table) for name, found in rungs.items()}
    shares = _shares(table if prior is None else comparisons.validate(with_texts(prior), where="prior"))
    constant = predictions.build(table["id"], np.tile(shares, (table.height, 1)))
    base = sample.build(table, constant, resamples=resamples, seed=seed)
    measured = [_Measured(PRIOR, base.probabilities, base)]
    measured += [_Measured(name, p[base.kept], base) for name, p in aligned.items()]
    found = [_rung(each, before, measured[0]) for before, each in zip([None, *measured], measured, strict=False)]
    return Ladder(len(base.kept), base.bootstrap.groups, (float(shares[0]), float(shares[1]), float(shares[2])), found)


class _Measured:
    def __init__(self, name: str, probabilities: np.ndarray, base: Sample) -> None:
        self.name = name
        self.base = base
        self.probabilities = probabilities
        self.loss = metrics.row_log_loss(probabilities, base.targets)


def _rung(each: _Measured, before: _Measured | None, prior: _Measured) -> Rung:
    base = each.base
    return Rung(
        name=each.name,
        log_loss=base.estimate(each.loss),
        change=None if before is None else base.estimate(each.loss - before.loss),
        gain=None if before is None else base.estimate(each.loss - prior.loss),
        accuracy=base.estimate(metrics.row_hits(each.probabilities, base.targets)),
        ece=metrics.ece(each.probabilities, base.targets, base.weights),
    )


def _aligned(name: str, found: pl.DataFrame, table: pl.DataFrame) -> np.ndarray:
    own = found.filter(pl.col("id").is_in(table["id"].implode()))
    try:
        return predictions.probabilities(predictions.align(own, table))
    except DataError as error:
        raise DataError(f"{name}: {error.wrong}", expected=error.expected, mend=error.mend) from error


def _shares(table: pl.DataFrame) -> np.ndarray:
    targets = comparisons.targets(table)
    known = ~np.isnan(targets).any(axis=1)
    if not known.any():
        raise DataError("no vote has a label", expected="votes with a label column (a, b, tie) or soft labels")
    weights = table["weight"].fill_null(1.0).to_numpy()[known]
    shares: np.ndarray = np.average(targets[known], axis=0, weights=weights if weights.sum() > 0 else None)
    return shares


def _plain(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    return {name: _round(value) for name, value in vars(estimate).items()}


def _round(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
