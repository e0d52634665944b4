"""One soft label of several teachers: calibrated, pooled, measured, with its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import pooling, soft_labels
from tiebreak.calibrate import METHODS as FAMILIES
from tiebreak.calibrate import alarm
from tiebreak.calibrate.words import describe
from tiebreak.comparisons import SOFT
from tiebreak.errors import UsageError
from tiebreak.scoring import Bootstrap, Estimate, row_hits, row_log_loss
from tiebreak.teach.combining.crossing import AS_IS, FOLDS, Crossed, cross_fit
from tiebreak.teach.combining.opinions import Opinions, gather

METHODS: Final = ("probabilities", "logits", "weights")
PRIOR: Final = "class shares"

_NAMES: Final = {
    "probabilities": "mean of probabilities", "logits": "mean of logits", "weights": "fitted weights of logits",
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One way of labelling, on rows with votes that it did not learn from; intervals by group bootstrap."""

    log_loss: Estimate
    against_prior: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class Combination:
    """What came of it.

    Attributes:
        labels: `soft_labels.SCHEMA`.
        method: Out of `METHODS`.
        calibration: Name of the family, or "none".
        measures: By name: the class shares, each teacher as it came and calibrated, each way of pooling.
        chosen: The name of the one that was written.
        weights: Fitted weights by teacher, on all votes.
        words: What the calibration of each teacher does.
        fitted_on: Rows that anything was fitted on.
        remembered: Rows left out of that because some teacher was trained on them.
        left_out: Comparisons that some teacher did not label.
        faults: What the collapse alarm says of the teachers.
    """

    labels: pl.DataFrame
    method: str
    calibration: str
    measures: dict[str, Measure]
    chosen: str
    weights: dict[str, float]
    words: dict[str, list[str]]
    fitted_on: int
    remembered: int
    left_out: int
    faults: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The figures, for JSON: estimates as [value, low, high]."""
        return {
            "method": self.method,
            "calibration": self.calibration,
            "chosen": self.chosen,
            "rows": self.labels.height,
            "fitted_on": self.fitted_on,
            "remembered": self.remembered,
            "left_out": self.left_out,
            "folds": FOLDS,
            "weights": self.weights,
            "calibrations": self.words,
            "faults": self.faults,
            "measures": {
                name: {
                    figure: [estimate.value, estimate.low, estimate.high]
                    for figure, estimate in vars(measure).items()
                }
                for name, measure in self.measures.items()
            },
        }  # fmt: skip


def combine(
    labels: Mapping[str, pl.DataFrame],
    votes: pl.DataFrame,
    *,
    calibration: str = "symmetric",
    method: str = "probabilities",
    name: str | None = None,
    force: bool = False,
    seed: int = 0,
) -> Combination:
    """Calibrate each teacher and pool them; every row's label is made by what other rows' votes taught.

    Args:
        labels: Validated tables of labels by teacher.
        votes: The comparisons, with votes where people gave them.
        calibration: A family of `tiebreak.calibrate`, or "none".
        method: One of `METHODS`.
        name: Of the result; by default the teachers' joined by "+".
        force: Use a teacher that the collapse alarm is against, and too few votes.
        seed: Of folds and resamples.

    Raises:
        CollapseError: The alarm is against the calibration of some teacher.
        DataError: Labels and votes do not fit together, or votes are too few.
        UsageError: A name is unknown.
    """
    if calibration not in (*FAMILIES, AS_IS):
        raise UsageError(f"--calibrate {calibration!r}", expected=f"one of {', '.join((*FAMILIES, AS_IS))}")
    if method not in METHODS:
        raise UsageError(f"--method {method!r}", expected=f"one of {', '.join(METHODS)}")
    opinions = gather(labels, votes)
    crossed = cross_fit(opinions, calibration, force=force, seed=seed)
    pools = {
        "probabilities": pooling.linear(crossed.calibrated),
        "logits": pooling.logarithmic(crossed.calibrated),
        "weights": _weighted(crossed),
    }
    measures = _measures(opinions, crossed, pools, calibration, seed)
    faults = _faults(opinions, crossed, measures)
    if not force:
        alarm.refuse(faults, "a teacher's calibration")
    return Combination(
        labels=_table(opinions, pools[method], name or "+".join(opinions.names), as_is=_as_is(opinions, calibration)),
        method=method,
        calibration=calibration,
        measures=measures,
        chosen=_NAMES[method] if len(opinions.names) > 1 else _called(opinions.names[0], calibration),
        weights=dict(zip(opinions.names, map(float, crossed.recipe.weights), strict=True)),
        words={
            teacher: describe(map_) if map_ else ["left as it is"]
            for teacher, map_ in zip(opinions.names, crossed.recipe.calibrations, strict=True)
        },
        fitted_on=int(opinions.fitting.sum()),
        remembered=int((opinions.remembered & ~np.isnan(opinions.targets).any(axis=1)).sum()),
        left_out=opinions.left_out,
        faults=faults,
    )


def _weighted(crossed: Crossed) -> np.ndarray:
    """The mean of logits with the weights of each row's fold."""
    result = np.empty(crossed.calibrated.shape[1:])
    for weights in np.unique(crossed.weights, axis=0):
        rows = (crossed.weights == weights).all(axis=1)
        result[rows] = pooling.logarithmic(crossed.calibrated[:, rows], weights)
    return result


def _called(teacher: str, calibration: str) -> str:
    return teacher if calibration == AS_IS else f"{teacher}, calibrated"


def _measures(
    opinions: Opinions, crossed: Crossed, pools: dict[str, np.ndarray], calibration: str, seed: int
) -> dict[str, Measure]:
    used = opinions.fitting
    if not used.any():
        return {}
    targets, weights = opinions.targets[used], opinions.weights[used]
    prior = np.broadcast_to(weights @ targets / weights.sum(), targets.shape)
    ways = {PRIOR: prior} | {name: p[used] for name, p in zip(opinions.names, opinions.p, strict=True)}
    if calibration != AS_IS:
        ways |= {_called(n, calibration): p[used] for n, p in zip(opinions.names, crossed.calibrated, strict=True)}
    if len(opinions.names) > 1:
        ways |= {_NAMES[method]: pools[method][used] for method in METHODS}
    bootstrap = Bootstrap(opinions.groups[used], seed=seed)
    total = bootstrap.sum(weights)
    losses = {name: bootstrap.sum(row_log_loss(p, targets) * weights) / total for name, p in ways.items()}
    hits = {name: bootstrap.sum(row_hits(p, targets) * weights) / total for name, p in ways.items()}
    return {
        name: Measure(Estimate.of(loss), Estimate.of(loss - losses[PRIOR]), Estimate.of(hits[name]))
        for name, loss in losses.items()
    }


def _faults(opinions: Opinions, crossed: Crossed, measures: dict[str, Measure]) -> list[str]:
    """What the collapse alarm of `tiebreak calibrate` has against each teacher."""
    used, faults = opinions.fitting, []
    for name, p, map_ in zip(opinions.names, opinions.p, crossed.recipe.calibrations, strict=True):
        if map_ is None:
            continue
        has_ties = bool((opinions.targets[used][:, 2] > 0).any())
        found = alarm.fit_faults(map_, p[used], opinions.weights[used], has_ties=has_ties)
        found += alarm.skill_faults(measures[f"{name}, calibrated"].against_prior)
        faults += [f"{name}: {fault}" for fault in found]
    return faults


def _as_is(opinions: Opinions, calibration: str) -> bool:
    return len(opinions.names) == 1 and calibration == AS_IS


def _table(opinions: Opinions, p: np.ndarray, name: str, *, as_is: bool) -> pl.DataFrame:
    """The labels with what is known of where they come from.

    `fold` and `rendering` are kept where all teachers agree, renderings and revisions are joined by "+" where they do
    not, `in_sample` is true where it is for any teacher and false where it is for all. How far the orders disagree is
    not known after calibration, except where they never did.
    """
    tables = list(opinions.tables.values())
    columns = {column: [table[column] for table in tables] for column in soft_labels.SCHEMA}
    gaps = pl.DataFrame({str(k): gap for k, gap in enumerate(columns["swap_gap"])})
    exact = gaps.select(pl.when(pl.all_horizontal(pl.all() == 0)).then(0.0)).to_series()
    table = tables[0].with_columns(
        *(pl.Series(column, p[:, k]) for k, column in enumerate(SOFT)),
        (columns["swap_gap"][0] if as_is else exact).alias("swap_gap"),
        _joined(columns["truncated"], pl.any_horizontal(pl.all())).alias("truncated"),
        pl.lit(name).alias("teacher"),
        _joined(columns["revision"], _plus()).alias("revision"),
        _joined(columns["rendering"], _plus()).alias("rendering"),
        _joined(columns["fold"], pl.when(pl.all_horizontal(pl.all() == pl.first())).then(pl.first())).alias("fold"),
        _joined(columns["in_sample"], pl.any_horizontal(pl.all())).alias("in_sample"),
    )
    return soft_labels.validate(table, where=name)


def _joined(columns: list[pl.Series], rule: pl.Expr) -> pl.Series:
    return pl.DataFrame({str(k): column for k, column in enumerate(columns)}).select(rule.alias("made")).to_series()


def _plus() -> pl.Expr:
    """Texts that are the same once, others joined; null where nothing is known."""
    known = pl.concat_list(pl.all()).list.drop_nulls().list.unique(maintain_order=True)
    return pl.when(known.list.len() > 0).then(known.list.join("+"))
