"""Measure everything at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from tiebreak import comparisons
from tiebreak import predictions as tables
from tiebreak.errors import UsageError
from tiebreak.evaluation import audits, baselines, comparison, curves, ledger, sample, scores, slices, surprises
from tiebreak.evaluation.result import Counts, Evaluation
from tiebreak.scoring import metrics
from tiebreak.scoring.bootstrap import Estimate

MIN_RESAMPLES = 10


def evaluate(
    predictions: pl.DataFrame,
    votes: pl.DataFrame,
    *,
    against: pl.DataFrame | None = None,
    swapped: pl.DataFrame | None = None,
    resamples: int = 1000,
    seed: int = 0,
    excerpts: bool = True,
    name: str = "predictions",
    against_name: str = "the other predictions",
    remarks: Sequence[str] = (),
) -> Evaluation:
    """Score predictions against votes: metrics with intervals, baselines, slices, audits and curves.

    The verdict of a row follows from its probabilities; a `label` column among the predictions is not looked at.

    Args:
        predictions: A prediction table. Rows meet votes by id.
        votes: Comparisons with labels. The text columns may be absent; what needs texts is then left out and named.
        against: Predictions of another judge for the same votes, for paired differences.
        swapped: Predictions of the same judge for the mirrored votes (answers changed places, same ids).
        resamples: Resamples behind each interval.
        seed: Seed of the resamples and of the folds of the length baseline.
        excerpts: Whether the most surprising votes are listed with the start of their texts.
        name: Name of the predictions in the report.
        against_name: Name of the other predictions in the report.
        remarks: Sentences that readers must see before the figures.

    Raises:
        DataError: A table is not what it should be, ids do not match, or no vote has a label.
        UsageError: Too few resamples for an interval.
    """
    if resamples < MIN_RESAMPLES:
        raise UsageError(f"{resamples} resamples", expected=f"at least {MIN_RESAMPLES}; 1000 is usual")
    table = comparisons.validate(with_texts(votes), where="votes")
    judged = _aligned(predictions, table, "predictions")
    measured = sample.build(table, judged, resamples=resamples, seed=seed)
    other = _probabilities(against, table, measured, "against")
    mirrored = _probabilities(swapped, table, measured, "swapped")
    parts, left_out = slices.measure(measured, other, judged["truncated"].to_numpy()[measured.kept])
    versus = None if other is None else comparison.compare(measured, other, against_name)
    gaps = judged["swap_gap"].cast(pl.Float64).to_numpy()[measured.kept]
    given = {"predictions": predictions, "against": against, "swapped": swapped}
    figures = scores.score(measured, measured.probabilities)
    ladder = baselines.measure(measured, seed=seed)
    return Evaluation(
        name=name,
        counts=_count(table, judged, measured),
        resamples=resamples,
        seed=seed,
        fingerprints={"votes": comparisons.fingerprint(table)}
        | {key: fingerprint(frame) for key, frame in given.items() if frame is not None},
        metrics=figures,
        calibrated_ece=scores.calibrated_ece(measured, measured.probabilities, seed=seed),
        baselines=ladder,
        comparison=versus,
        slices=parts,
        left_out=left_out,
        audits=audits.measure(measured, mirrored, gaps),
        curves=curves.build(
            measured,
            parts,
            _losses(figures["log_loss"], versus, ladder),
            versus.difference["log_loss"] if versus else None,
        ),
        surprises=surprises.largest(measured, excerpts=excerpts),
        remarks=tuple(remarks),
        ledger=ledger.measure(measured, judged),
    )


def _losses(
    own: Estimate, versus: comparison.Comparison | None, ladder: dict[str, baselines.Baseline]
) -> dict[str, Estimate]:
    """By names of ours, so that no name of a file gets into a picture."""
    other = {"the other judge": versus.metrics["log_loss"]} if versus else {}
    found = {each.title: each.metrics["log_loss"] for each in ladder.values() if "log_loss" in each.metrics}
    return {"this judge": own} | other | found


def with_texts(votes: pl.DataFrame) -> pl.DataFrame:
    """Votes without text columns get one empty turn, so that labels alone can be scored."""
    absent = [name for name in comparisons.TEXTS if name not in votes.columns]
    if len(absent) < len(comparisons.TEXTS):
        return votes
    nothing = pl.lit([None], dtype=comparisons.TURNS)
    return votes.with_columns(nothing.alias(name) for name in absent)


def fingerprint(frame: pl.DataFrame) -> str:
    """A sha256 of ids and probabilities, row by row in order."""
    digest = hashlib.sha256()
    for batch in tables.validate(frame).select("id", *tables.PROBABILITIES).iter_slices(10_000):
        digest.update(batch.write_ndjson().encode())
    return digest.hexdigest()


def _aligned(frame: pl.DataFrame, votes: pl.DataFrame, where: str) -> pl.DataFrame:
    return tables.align(tables.validate(frame, where=where), votes)


def _probabilities(
    frame: pl.DataFrame | None, votes: pl.DataFrame, measured: sample.Sample, where: str
) -> np.ndarray | None:
    if frame is None:
        return None
    kept: np.ndarray = tables.probabilities(_aligned(frame, votes, where))[measured.kept]
    return kept


def _count(votes: pl.DataFrame, judged: pl.DataFrame, measured: sample.Sample) -> Counts:
    unlabelled = int(np.isnan(comparisons.targets(votes)).any(axis=1).sum())
    scored = len(measured.kept)
    of_vote = (measured.probabilities * measured.targets).sum(axis=1)
    return Counts(
        votes=votes.height,
        scored=scored,
        unlabelled=unlabelled,
        weightless=votes.height - scored - unlabelled,
        soft=int((measured.targets.max(axis=1) < 1).sum()),
        groups=measured.bootstrap.groups,
        truncated=int(judged["truncated"].to_numpy()[measured.kept].sum()),
        impossible=int((of_vote < metrics.FLOOR).sum()),
    )
