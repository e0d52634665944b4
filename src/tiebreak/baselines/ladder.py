"""Where a judge stands: known rungs and your own models on the same votes, out of fold, with paired differences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, judges, prepare
from tiebreak import predictions as tables
from tiebreak.baselines.learners import LEARNERS, Labelled, labelled
from tiebreak.errors import DataError, MissingExtraError, UsageError
from tiebreak.judges import Judge
from tiebreak.scoring import Bootstrap, Estimate, metrics

TITLES: Final = {
    "uniform": "uniform",
    "prior": "class prior",
    "length": "length only",
    "features": "features, these votes only",
    "tfidf": "TF-IDF + linear",
    "judge": "embedded judge",
}
"""The rungs by name, from the ground up."""

METRICS: Final = ("log_loss", "accuracy", "brier", "ece")
CONSTANT: Final = ("uniform", "prior")
"""Rungs that say the same of every row: their accuracy is that of naming one of their likeliest classes at random."""

LEAST_ROWS: Final = 20


@dataclass(frozen=True)
class Rung:
    """One line of the ladder.

    Attributes:
        name: Its name, as in `TITLES`, or the one given to a table of predictions.
        title: Its name for people.
        metrics: `log_loss`, `accuracy`, `brier` and `ece` (mean of the classes), each with a 95 % interval; empty when
            the rung could not be measured.
        difference: Log-loss minus that of the rung above it in the table, paired; None on the first.
        missing: What to install, where an optional dependency is missing.
        remarks: What to bear in mind, for example that a figure is in-sample.
    """

    name: str
    title: str
    metrics: dict[str, Estimate]
    difference: Estimate | None = None
    missing: str = ""
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values: figures as [value, low, high]."""
        return {
            "title": self.title,
            **{name: _bounds(estimate) for name, estimate in self.metrics.items()},
            "difference": _bounds(self.difference) if self.difference else None,
            "missing": self.missing,
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class Ladder:
    """All rungs on the same rows, folds and resamples."""

    rows: int
    groups: int
    folds: int
    repeats: int
    seed: int
    rungs: list[Rung]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        own = {name: getattr(self, name) for name in ("rows", "groups", "folds", "repeats", "seed")}
        return {**own, "rungs": {rung.name: rung.to_json() for rung in self.rungs}}

    def frame(self) -> pl.DataFrame:
        """As a table: a row a rung, three columns a figure."""
        return pl.DataFrame(
            [
                {
                    "rung": rung.name,
                    **{
                        f"{name}{suffix}": _bounds(estimate)[place] if estimate else None
                        for name, estimate in (
                            *((metric, rung.metrics.get(metric)) for metric in METRICS),
                            ("difference", rung.difference),
                        )
                        for place, suffix in enumerate(("", "_low", "_high"))
                    },
                    "missing": rung.missing,
                    "remarks": "; ".join(rung.remarks),
                }
                for rung in self.rungs
            ],
            infer_schema_length=None,
        )


def ladder(
    votes: pl.DataFrame,
    *,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    only: Collection[str] = (),
    judge: Judge | None = None,
    predictions: Mapping[str, pl.DataFrame] | None = None,
    resamples: int = 1000,
    advance: Callable[[int], None] | None = None,
) -> Ladder:
    """Measure the rungs on votes.

    Rungs that learn are judged out of fold: near-duplicates of a row never stand among those its prediction was
    learned from.

    Args:
        votes: Comparisons with labels. Groups come from near-duplicates, and from `group` where it is given.
        folds: Folds of the cross-validation.
        repeats: How often to draw them anew; figures are means over repeats.
        seed: Seed of folds, learners and resamples.
        only: Names of rungs; by default all of `TITLES` that can be had.
        judge: The last rung; the embedded judge by default.
        predictions: Tables of predictions for the same votes, by name, put on top.
        resamples: Resamples behind each interval.
        advance: Called with 1 after each fold of each rung.

    Raises:
        UsageError: A rung is unknown.
        DataError: There are too few votes, or predictions do not fit them.
        MissingExtraError: A rung that was asked for by `only` needs an optional dependency.
    """
    _check_names(only, predictions or {})
    table = comparisons.validate(votes, where="votes")
    rows, deals = _deal(table, folds, repeats, seed)
    measure = _Measure(rows, resamples, seed)
    step = advance or (lambda _: None)
    rungs: list[Rung] = []
    for name in (name for name in TITLES if not only or name in only):
        try:
            remarks = in_sample(judge or judges.load(), rows.table) if name == "judge" else ()
            repeated = list(_repeats(name, rows, deals, seed, judge, step))
        except MissingExtraError as error:
            if name in only:
                raise
            rungs.append(Rung(name, TITLES[name], {}, missing=error.mend))
            continue
        title = judge.manifest.name if judge and name == "judge" else TITLES[name]
        rungs.append(measure.rung(name, title, repeated, remarks))
    for name, given in (predictions or {}).items():
        p = _aligned(given, table, name)
        rungs.append(measure.rung(name, name, [p], ()))
    return Ladder(len(rows.targets), measure.groups, folds, repeats, seed, rungs)


def in_sample(judge: Judge, votes: pl.DataFrame) -> tuple[str, ...]:
    """Warnings where a judge may have been trained on these votes: by fingerprint of the set, else by its name."""
    found = comparisons.fingerprint(votes)
    sources = set(votes["source"].drop_nulls().unique())
    for trained in judge.manifest.training:
        if trained.fingerprint == found:
            return (f"trained on these very votes ({trained.name}): in-sample, too good to be true",)
        if trained.name in sources:
            return (f"trained on votes of the same source ({trained.name}): probably in-sample",)
    return ()


def _check_names(only: Collection[str], predictions: Mapping[str, pl.DataFrame]) -> None:
    unknown = [name for name in only if name not in TITLES]
    if unknown:
        raise UsageError(f"unknown rung {unknown[0]!r}", expected=f"one of {', '.join(TITLES)}")
    taken = [name for name in predictions if name in TITLES]
    if taken:
        raise UsageError(f"predictions named {taken[0]!r}, like a rung", expected="another name")


def _deal(table: pl.DataFrame, folds: int, repeats: int, seed: int) -> tuple[Labelled, list[np.ndarray]]:
    """The labelled rows, and the fold of each for every repeat."""
    grouped = table.with_columns(group=prepare.groups(table))
    rows = labelled(grouped, grouped["group"].to_numpy())
    if len(rows.targets) < LEAST_ROWS:
        raise DataError(
            f"{len(rows.targets)} of {table.height} votes have a label and a weight above 0",
            expected=f"at least {LEAST_ROWS}; some hundreds tell rungs apart",
        )
    return rows, [prepare.folds(rows.table, folds, seed=seed + repeat).to_numpy() for repeat in range(repeats)]


def _repeats(
    name: str, rows: Labelled, deals: list[np.ndarray], seed: int, judge: Judge | None, step: Callable[[int], None]
) -> list[np.ndarray]:
    """Probabilities of one rung for every row, once for each repeat (once in all where nothing is learned)."""
    if name == "uniform":
        return [np.full_like(rows.targets, 1 / 3)]
    if name == "judge":
        return [tables.probabilities((judge or judges.load()).predict(rows.table))]
    found = []
    for repeat, fold in enumerate(deals):
        learn = LEARNERS[name](rows, seed + repeat)
        p = np.empty_like(rows.targets)
        for number in range(int(fold.max()) + 1):
            p[fold == number] = learn(np.flatnonzero(fold != number), np.flatnonzero(fold == number))
            step(1)
        found.append(p)
    return found


def _aligned(given: pl.DataFrame, table: pl.DataFrame, name: str) -> np.ndarray:
    p = tables.probabilities(tables.align(tables.validate(given, where=name), table))
    targets, weights = comparisons.targets(table), table["weight"].fill_null(1.0).to_numpy()
    kept: np.ndarray = p[~np.isnan(targets).any(axis=1) & (weights > 0)]
    return kept


class _Measure:
    """Figures of one rung after the other, on the same resamples, each against the one before."""

    def __init__(self, rows: Labelled, resamples: int, seed: int) -> None:
        self._rows = rows
        self._bootstrap = Bootstrap(rows.groups, resamples=resamples, seed=seed)
        self._total = self._bootstrap.sum(rows.weights)
        self._above: np.ndarray | None = None
        self.groups = self._bootstrap.groups

    def rung(self, name: str, title: str, repeated: list[np.ndarray], remarks: tuple[str, ...]) -> Rung:
        score_hits = _guesses if name in CONSTANT else metrics.row_hits
        draws = np.mean([self._draws(p, score_hits(p, self._rows.targets)) for p in repeated], axis=0)
        figures = {
            metric: Estimate.of(row, centred=metric == "ece") for metric, row in zip(METRICS, draws, strict=True)
        }
        difference = None if self._above is None else Estimate.of(draws[0] - self._above)
        self._above = draws[0]
        return Rung(name, title, figures, difference, remarks=remarks)

    def _draws(self, p: np.ndarray, hits: np.ndarray) -> np.ndarray:
        """Shape (metrics, 1 + resamples)."""
        t, w = self._rows.targets, self._rows.weights
        scores = (metrics.row_log_loss(p, t), hits, metrics.row_brier(p, t))
        means = [self._bootstrap.sum(score * w) / self._total for score in scores]
        return np.stack([*means, np.mean([self._gap(*pair) for pair in zip(p.T, t.T, strict=True)], axis=0)])

    def _gap(self, expected: np.ndarray, seen: np.ndarray) -> np.ndarray:
        w = self._rows.weights
        bins = metrics.equal_mass_bins(expected, weights=w)
        off = self._bootstrap.sum(w * (expected - seen), by=bins, size=metrics.BINS)
        gap: np.ndarray = np.abs(off).sum(axis=1) / self._total
        return gap


def _guesses(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Accuracy of each row where a draw is broken by lot; the rule for verdicts would call it a tie."""
    likeliest = np.isclose(p, p.max(axis=1, keepdims=True))
    hits: np.ndarray = (t * likeliest).sum(axis=1) / likeliest.sum(axis=1)
    return hits


def _bounds(estimate: Estimate) -> list[float | None]:
    """Value, low, high; None for what is not defined."""
    return [None if np.isnan(x) else x for x in (estimate.value, estimate.low, estimate.high)]
