"""Pairs that nobody voted on, with a teacher's probabilities, beside people's votes; everything left out is counted.

WSDM 2025 drew much of its gain from such rows: 90,000 to 560,000 pairs labelled by the teachers, those without a clear
side left out (|P(A) - P(B)| <= .03 in the second place's solution).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions, prepare, soft_labels
from tiebreak.comparisons import SOFT
from tiebreak.errors import DataError, UsageError

PSEUDO: Final = "pseudo:"
"""`source` of a pseudo-labelled row: this and the teacher's name."""


@dataclass
class MixReport:
    """What became of every row of the pool; each is counted where it was dropped first.

    Attributes:
        votes: Rows of the votes, all kept.
        pool: Rows of the pool.
        dropped: By reason, in the order in which they were looked for.
        kept: Pseudo-labelled rows.
        vote_weight: Sum of the weights of the votes.
        pseudo_weight: Sum of the weights of the pseudo-labelled rows.
        mean: Mean probabilities (a, b, tie) of the pseudo-labelled rows.
        notes: What a careful user should know.
    """

    votes: int
    pool: int
    dropped: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    vote_weight: float = 0.0
    pseudo_weight: float = 0.0
    mean: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The counts, for JSON."""
        return vars(self)


def mix(
    votes: pl.DataFrame,
    pool: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    agreement: Mapping[str, pl.DataFrame] | None = None,
    exclude: Mapping[str, pl.DataFrame] | None = None,
    weight: float = 0.5,
    margin: float = 0.03,
    max_rows: int | None = None,
    near: bool = True,
    seed: int = 0,
) -> tuple[pl.DataFrame, MixReport]:
    """Votes and pseudo-labelled rows as one table to train on.

    Swapping the answers of every table swaps those of the result, exactly.

    Args:
        votes: Comparisons with people's votes; all are kept, as they are.
        pool: Comparisons without votes, distinct ids.
        labels: A validated table of one teacher's labels of the pool.
        agreement: Labels of other teachers by name; a row stays where all verdicts are the same.
        exclude: Comparisons by name that must stay unseen.
        weight: Of a pseudo-labelled row (times the pool's own `weight`, where it has one).
        margin: See `undecided`.
        max_rows: Pseudo-labelled rows at most, drawn by a hash of the seed and their ids.
        near: Near-duplicates of votes and excluded rows are dropped too.
        seed: Of the draw.

    Raises:
        DataError: An id occurs twice, or labels are of other texts.
        UsageError: A number is out of its range.
    """
    if not (np.isfinite(weight) and weight >= 0 and 0 <= margin <= 1):
        raise UsageError(f"weight {weight}, margin {margin}", expected="a weight >= 0 and a margin from 0 to 1")
    votes, rows = comparisons.validate(votes, where="votes"), comparisons.validate(pool, where="pool")
    if rows["id"].is_duplicated().any():
        raise DataError(
            "the pool names an id more than once", expected="distinct ids", mend="tiebreak data dedupe POOL"
        )
    report = MixReport(votes.height, rows.height)
    rows = _unvoted(rows, report)
    for name, known in {"prompt or answers in the votes": votes, **_named(exclude)}.items():
        rows = _count(rows, prepare.overlap(known, rows, near=near).drop(rows), name, report)
    rows = _count(rows, rows.filter(~rows["id"].is_in(_copies(rows))), "copies of another row of the pool", report)
    rows, labelled = _labelled(rows, labels, "no label", report)
    rows, labelled = _keep(rows, labelled, ~undecided(_p(labelled), margin), f"undecided (margin {margin:g})", report)
    for name, table in (agreement or {}).items():
        rows, labelled = _agreeing(rows, labelled, table, name, report)
    if max_rows is not None:
        rows, labelled = _keep(rows, labelled, _drawn(rows["id"], max_rows, seed), f"over {max_rows:,} rows", report)
    return _together(votes, _pseudo(rows, labelled, weight), report), report


def undecided(p: np.ndarray, margin: float) -> np.ndarray:
    """Rows in which neither a side nor the tie leads by more than the margin.

    |P(A) - P(B)| alone would throw every tie away: a judge that is sure of a tie gives both answers the same. So a row
    stays as well where the tie is ahead of both answers by more than the margin.

    Args:
        p: Shape (rows, 3), order a, b, tie.
        margin: From 0 to 1.
    """
    side = np.abs(p[:, 0] - p[:, 1]) > margin
    tie = p[:, 2] - np.maximum(p[:, 0], p[:, 1]) > margin
    even: np.ndarray = ~(side | tie)
    return even


def _named(exclude: Mapping[str, pl.DataFrame] | None) -> dict[str, pl.DataFrame]:
    return {
        f"prompt or answers in {name}": comparisons.validate(table, where=name)
        for name, table in (exclude or {}).items()
    }


def _unvoted(rows: pl.DataFrame, report: MixReport) -> pl.DataFrame:
    voted = rows["label"].is_not_null() | rows["p_a"].is_not_null()
    return _count(rows, rows.filter(~voted), "a vote of their own (give them with --votes)", report)


def _copies(rows: pl.DataFrame) -> pl.Series:
    dropped = prepare.dedupe(rows, near=False)[1].dropped if rows.height else []
    return pl.Series(dropped, dtype=pl.String).implode()


def _labelled(
    rows: pl.DataFrame, labels: pl.DataFrame, reason: str, report: MixReport
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that have a label, and their labels in the same order."""
    left = rows.join(labels.select("id"), on="id", how="semi", maintain_order="left")
    _count(rows, left, reason, report)
    return left, soft_labels.align(labels, left, where=reason)


def _agreeing(
    rows: pl.DataFrame, labelled: pl.DataFrame, table: pl.DataFrame, name: str, report: MixReport
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of which another teacher gives the same verdict."""
    theirs = _labelled(rows, table, f"no label of {name}", report)[1]
    told = rows["id"].is_in(theirs["id"].implode()).to_numpy()
    rows, labelled = rows.filter(told), labelled.filter(told)
    same = predictions.verdicts(_p(labelled)) == predictions.verdicts(_p(theirs))
    return _keep(rows, labelled, same, f"another verdict of {name}", report)


def _keep(
    rows: pl.DataFrame, labelled: pl.DataFrame, kept: np.ndarray, reason: str, report: MixReport
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return _count(rows, rows.filter(kept), reason, report), labelled.filter(kept)


def _count(before: pl.DataFrame, after: pl.DataFrame, reason: str, report: MixReport) -> pl.DataFrame:
    report.dropped[reason] = report.dropped.get(reason, 0) + before.height - after.height
    return after


def _drawn(ids: pl.Series, most: int, seed: int) -> np.ndarray:
    """A draw that does not depend on the order of rows."""
    digests = [hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest() for name in ids]
    chosen = sorted(range(len(digests)), key=digests.__getitem__)[:most]
    drawn = np.zeros(len(digests), dtype=bool)
    drawn[chosen] = True
    return drawn


def _p(table: pl.DataFrame) -> np.ndarray:
    return table.select(SOFT).to_numpy()


def _pseudo(rows: pl.DataFrame, labelled: pl.DataFrame, weight: float) -> pl.DataFrame:
    # Held out nowhere: what a teacher says is no measure of a student.
    return rows.with_columns(
        *(labelled[name] for name in SOFT),
        (pl.col("weight").fill_null(1.0) * weight).alias("weight"),
        pl.lit(None, dtype=pl.Int64).alias("fold"),
        (PSEUDO + labelled["teacher"]).alias("source"),
    )


def _together(votes: pl.DataFrame, pseudo: pl.DataFrame, report: MixReport) -> pl.DataFrame:
    both = pseudo.filter(pseudo["id"].is_in(votes["id"].implode()))
    if both.height:
        raise DataError(
            f"{both.height:,} ids of the pool name other comparisons among the votes (for example {both['id'][0]!r})",
            expected="ids that name one comparison in all files",
        )
    if votes["fold"].null_count():
        report.notes.append(
            "the votes have no folds: a training that deals its own would hold pseudo-labelled rows out too; "
            "tiebreak data split VOTES --folds 5 first, and pseudo-labelled rows are always trained on"
        )
    kept = votes.with_columns(pl.col("weight").fill_null(1.0))
    report.kept = pseudo.height
    report.vote_weight, report.pseudo_weight = float(kept["weight"].sum()), float(pseudo["weight"].sum())
    report.mean = [float(x) for x in _p(pseudo).mean(axis=0)] if pseudo.height else []
    return comparisons.validate(pl.concat([kept, pseudo]), where="mixed rows")
