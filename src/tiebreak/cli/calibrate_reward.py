"""`tiebreak calibrate` of a reward judge: fit the tie model between its scores and the probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.cli import calibrate as general
from tiebreak.cli import console, judged
from tiebreak.errors import DataError, GateError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from tiebreak.calibrate.tie_models import TieRows
    from tiebreak.judges import Runtime
    from tiebreak.judges.reward import RewardJudge


def run(
    table: Path, labels: Path | None, output: Path | None, judge: Path, method: str, columns: list[str] | None, *,
    folds: int, repeats: int, seed: int, force: bool, input_format: str, mapping: list[str] | None, dry_run: bool,
    as_json: bool, runtime: Runtime,
) -> None:  # fmt: skip
    """Fit the tie models to votes, print what they are worth, and write a copy of the judge with one of them.

    Args:
        table: The votes; or predictions of the judge, whose votes are in `labels`: then no answer is read again.
        labels: None, or the votes.
        output: Directory of the fitted bundle; None writes nothing.
        judge: The bundle.
        method: A tie model, or auto.
        columns: Names of the columns of predictions.
        folds: As of `tiebreak calibrate`, like the others.
        repeats: How often to draw the folds anew.
        seed: Of folds and resamples.
        force: Overrule the alarm.
        input_format: Of the votes.
        mapping: Of the columns of the votes.
        dry_run: Say what would be done and stop.
        as_json: Print JSON.
        runtime: How the reward model runs.
    """
    from tiebreak.calibrate import document, ties

    if method not in (*ties.TIE_METHODS, "auto"):
        raise UsageError(f"--method {method!r}", expected=f"one of {', '.join((*ties.TIE_METHODS, 'auto'))}")
    if output is not None and output.suffix == ".json":
        raise UsageError(f"-o {output}: a tie model lives in a reward judge", expected="a directory for the bundle")
    votes = judged.votes(labels or table, input_format, mapping)
    if dry_run:
        console.note(f"would judge {', '.join(ties.TIE_METHODS)} and write {method} to {output or 'no file'}")
        return
    rows = _rows(judge, votes, table if labels else None, columns, runtime)
    general.tell_rows(rows, votes.height)
    total = folds * repeats * len(ties.TIE_METHODS)
    with console.progress("calibrate", total=total, unit="fits") as advance:
        study = ties.study_ties(rows, folds=folds, repeats=repeats, seed=seed, force=force, advance=advance)
    chosen = ties.choose(study, method)
    # What was asked for is written before anything is printed: a closed pipe must not cost the file.
    refusal = None
    if output is not None:
        try:
            forced = ties.into_bundle(study, chosen, judge, output, force=force)
            if forced:
                console.say(f"warning: used by force although {'; '.join(forced)}")
            console.note(f"wrote {output} with the fitted {chosen} model")
        except (GateError, DataError) as error:
            refusal = error
    if as_json:
        console.emit_json({"method": chosen, **document.summary(study)})
    else:
        general.show(study, chosen)
    for note in study.notes:
        console.note(f"note: {note}")
    if refusal is not None:
        raise refusal


def _rows(
    directory: Path, votes: pl.DataFrame, table: Path | None, columns: list[str] | None, runtime: Runtime
) -> TieRows:
    """Scores from the judge's own predictions where they are given, else from reading the answers."""
    from tiebreak import bundle, judges
    from tiebreak.calibrate import ties
    from tiebreak.judges.reward import Settings

    if table is not None:
        predicted = general.before_bundle(directory, judged.predictions(table, columns), votes)
        rewards, before = ties.rewards_of(predicted, votes, Settings.of(bundle.read(directory)).layer)
        return ties.tie_rows(rewards, votes, before)
    judge: Any = judges.load(directory, runtime)
    general.warn_if_trained_on(judge.manifest, votes)
    rewards, before = _scored(judge, votes)
    return ties.tie_rows(rewards, votes, before)


def _scored(judge: RewardJudge, votes: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    from tiebreak import comparisons
    from tiebreak.judges.reward import lengths
    from tiebreak.judges.siamese.answers import Answers

    if not set(comparisons.REQUIRED) <= set(votes.columns):
        raise DataError("these votes have no texts", expected="votes with texts, or PREDICTIONS --labels VOTES")
    votes = comparisons.validate(votes)
    with console.progress("read", total=len(Answers.of(votes).answers), unit="answers") as advance:
        rewards = judge.margins(votes, advance=advance)
    return rewards, judge.settings.layer.probabilities(rewards, lengths(votes))
