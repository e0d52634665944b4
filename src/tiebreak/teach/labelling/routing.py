"""Which teacher labels which row: out of fold, found from what each teacher was really trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tiebreak import row_hashes
from tiebreak.errors import DataError
from tiebreak.teach.labelling.teachers import Team


@dataclass(frozen=True)
class Routes:
    """Who labels what.

    Attributes:
        labels: bool (rows, teachers): whether this teacher labels this row.
        in_sample: Boolean, a row each: whether those who label it were trained on it (then all of them were); null
            where one of them does not say what it was trained on.
        team: The teachers.
    """

    labels: np.ndarray
    in_sample: pl.Series
    team: Team

    def slice(self, first: int, last: int) -> Routes:
        """Of the rows from `first` to before `last`."""
        return Routes(self.labels[first:last], self.in_sample[first:last], self.team)

    @property
    def counts(self) -> dict[str, int]:
        """Rows: out of sample, in sample, and where nobody can tell."""
        found = self.in_sample
        trained, unknown = int(found.sum()), found.null_count()
        return {"out_of_sample": len(found) - trained - unknown, "in_sample": trained, "unknown": unknown}

    @property
    def several(self) -> int:
        """Rows that more than one teacher labels."""
        return int((self.labels.sum(axis=1) > 1).sum())

    def refuse_in_sample(self) -> None:
        """Make sure that nobody labels a row that it was trained on.

        Raises:
            DataError: Some rows were trained on by every teacher.
        """
        count = int(self.in_sample.sum())
        if count:
            teachers = "every one of these teachers was" if len(self.team.teachers) > 1 else "the teacher was"
            raise DataError(
                f"{teachers} trained on {count:,} of {len(self.in_sample):,} rows (or on their swapped twins)",
                expected="fold teachers, so that each row has one that was not trained on it; a judge's word on a row "
                "that it was trained on is what it remembers",
                mend="one --judge for each fold (tiebreak train ... --fold K); or --in-sample to label these rows all "
                "the same and mark them",
            )


def routes(table: pl.DataFrame, team: Team) -> Routes:
    """Find the teachers of each row: those that were not trained on it, or all of them where there is none.

    A row counts as trained on whichever way round it was shown. A teacher whose bundle does not say what it was trained
    on labels every row.

    Raises:
        DataError: An id occurs twice.
    """
    twice = table.filter(table["id"].is_duplicated())
    if twice.height:
        raise DataError(
            f"{twice.height:,} rows share their ids with others (for example id {twice['id'][0]!r})",
            expected="distinct ids: labels are met by id",
            mend="tiebreak data dedupe VOTES, or number the rows in a column id",
        )
    hashes = row_hashes.unordered(table)
    trained = np.stack([_trained(hashes, one.trained) for one in team.teachers], axis=1)
    fresh: np.ndarray = ~trained
    lost = np.asarray(~fresh.any(axis=1))
    labels = fresh | lost[:, None]
    silent = np.array([one.trained is None for one in team.teachers])
    unknown = (labels & silent).any(axis=1)
    state = pl.Series("in_sample", lost).set(pl.Series(unknown), None)
    return Routes(labels, state, team)


def _trained(hashes: pl.Series, trained: frozenset[str] | None) -> np.ndarray:
    if not trained:
        return np.zeros(len(hashes), dtype=bool)
    return hashes.is_in(pl.Series(list(trained)).implode()).to_numpy()


def surprises(table: pl.DataFrame, found: Routes) -> str:
    """What is odd about the routes beside the column `fold` of the table, in words; nothing if they agree.

    Texts that were changed after the training (cleaned, cut, decoded otherwise) are other rows to a hash, and a judge
    that was trained on them would pass for one that was not.
    """
    given = table["fold"].fill_null(-1).to_numpy()
    folds = np.array([-2 if one.fold is None else one.fold for one in found.team.teachers])
    expected: np.ndarray = np.equal.outer(given, folds)
    other: np.ndarray = expected.any(axis=1) & (found.labels != expected).any(axis=1)
    if not other.any():
        return ""
    row = int(other.argmax())
    return (
        f"{int(other.sum()):,} rows are of a fold that one of these teachers held out, and others were not trained on "
        f"them either (for example id {table['id'][row]!r}): were they trained on other texts, or on other folds?"
    )
