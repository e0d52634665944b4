"""`tiebreak calibrate` of a judge that reads written verdicts: fit the table of what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.cli import calibrate as general
from tiebreak.cli import console, judged
from tiebreak.errors import DataError, GateError, UsageError

if TYPE_CHECKING:
    from tiebreak.calibrate.verdicts import VerdictRows
    from tiebreak.judges import Runtime


def run(
    table: Path, output: Path | None, judge: Path, *, folds: int, repeats: int, seed: int, force: bool,
    input_format: str, mapping: list[str] | None, dry_run: bool, as_json: bool, runtime: Runtime,
) -> None:  # fmt: skip
    """Ask the judge about votes, print what its verdicts are worth, and write a copy of it with the table.

    Args:
        table: The votes, with texts.
        output: Directory of the fitted bundle; None writes nothing.
        judge: The bundle.
        folds: As of `tiebreak calibrate`, like the others.
        repeats: How often to draw the folds anew.
        seed: Of folds and resamples.
        force: Overrule the alarm.
        input_format: Of the votes.
        mapping: Of the columns of the votes.
        dry_run: Say what would be done and stop.
        as_json: Print JSON.
        runtime: How the model runs.
    """
    from tiebreak.calibrate import document, verdicts

    if output is not None and output.suffix == ".json":
        raise UsageError(f"-o {output}: the table lives in a judge", expected="a directory for the bundle")
    if dry_run:
        console.note(
            f"would ask {judge} about {table}, fit the table of verdicts and write it to {output or 'no file'}"
        )
        return
    rows = _rows(judge, table, input_format, mapping, runtime)
    general.tell_rows(rows, len(rows.probabilities))
    with console.progress("calibrate", total=folds * repeats, unit="fits") as advance:
        study = verdicts.study_verdicts(
            rows, folds=folds, repeats=repeats, seed=seed, force=force, advance=advance
        )  # fmt: skip
    refusal = None
    if output is not None:
        try:
            forced = verdicts.into_bundle(study, judge, output, force=force)
            if forced:
                console.say(f"warning: used by force although {'; '.join(forced)}")
            console.note(f"wrote {output} with the table of verdicts")
        except (GateError, DataError) as error:
            refusal = error
    if as_json:
        console.emit_json({"method": verdicts.METHOD, **document.summary(study)})
    else:
        general.show(study, verdicts.METHOD)
    for note in study.notes:
        console.note(f"note: {note}")
    if refusal is not None:
        raise refusal


def _rows(directory: Path, table: Path, input_format: str, mapping: list[str] | None, runtime: Runtime) -> VerdictRows:
    from tiebreak import comparisons, judges
    from tiebreak.calibrate import verdicts
    from tiebreak.judges.generative import GenerativeJudge, reading

    votes = judged.votes(table, input_format, mapping)
    if not set(comparisons.REQUIRED) <= set(votes.columns):
        raise DataError("these votes have no texts", expected="VOTES with texts: the judge has to write about them")
    votes = comparisons.validate(votes)
    judge = judges.load(directory, runtime)
    assert isinstance(judge, GenerativeJudge)  # noqa: S101 - `tiebreak calibrate` looked
    general.warn_if_trained_on(judge.manifest, votes)
    with console.progress("read", total=2 * votes.height, unit="orders") as advance:
        found = reading.read(judge, votes, advance=advance)
    console.note(f"  {found.invalid:,} of {found.verdicts.size:,} texts end without exactly one verdict")
    worth = (judge.settings.reading or reading.Reading()).table
    return verdicts.verdict_rows(found.verdicts.transpose(1, 0, 2), votes, worth)
