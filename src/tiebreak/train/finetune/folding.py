"""Which votes are trained on and which are held out: one part, or one a fold. Groups never stand on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from tiebreak import comparisons, dealing, soft_labels
from tiebreak.errors import DataError, UsageError
from tiebreak.train.finetune.recipe import Recipe


@dataclass(frozen=True)
class Part:
    """One training.

    Attributes:
        fold: Its number; None where there are no folds.
        train: Rows that are trained on.
        validation: Rows that are held out; None where nothing is.
        order: Of each held-out row of a fold, its place among all rows.
        teachers: Probabilities of shape (training rows, teachers, 3): what each teacher says; None without teachers.
        taught_by: What the bundle says of each teacher.
    """

    fold: int | None
    train: pl.DataFrame
    validation: pl.DataFrame | None
    order: np.ndarray | None = None
    teachers: np.ndarray | None = None
    taught_by: list[dict[str, Any]] = field(default_factory=list)


def parts(recipe: Recipe, train: pl.DataFrame, validation: pl.DataFrame | None) -> tuple[list[Part], list[str]]:
    """The trainings of a run, and what was left out on the way, in plain words.

    Args:
        recipe: Its `folds`, `data.validation_share` and `seed` decide.
        train: Comparisons. With `folds`, the column `fold` says where each row is held out (null: nowhere); where it is
            not filled, whole groups are dealt to folds. A group is the column `group`, else all rows with one prompt.
        validation: Comparisons held out from the single training; not with folds.

    Raises:
        DataError: No row has a label, or there are fewer groups than folds.
        UsageError: Folds and validation rows are both given, or the column `fold` has another number of folds.
    """
    notes: list[str] = []
    train = labelled(train, "training", notes)
    if recipe.folds:
        if validation is not None:
            raise UsageError("validation rows and folds are both given", expected="one of them", mend="folds=0")
        if recipe.folds == 1:
            raise UsageError("folds is 1", expected="0 for one training, or 2 and more")
        fold = _folds(train, recipe)
        return [_fold(train, fold, number) for number in range(recipe.folds)], notes
    if validation is None:
        if not recipe.data.validation_share:
            return [Part(None, train, None)], notes
        share = recipe.data.validation_share
        held = pl.Series(_dealt(train, [1 - share, share], recipe.seed) == 1)
        return [Part(None, _apart(train, held), train.filter(held))], notes
    validation = labelled(validation, "validation", notes)
    validation = _unseen(validation.filter(~made_up(validation)), train, notes)
    return [Part(None, train, validation)], notes


def only(todo: Sequence[Part], fold: int) -> Part:
    """The training of one fold.

    Raises:
        UsageError: There is no such fold.
    """
    found = [part for part in todo if part.fold == fold]
    if not found:
        folds = [str(part.fold) for part in todo if part.fold is not None]
        raise UsageError(
            f"there is no fold {fold}",
            expected=f"one of {', '.join(folds)}" if folds else "a recipe with folds",
            mend="" if folds else "folds=5",
        )
    return found[0]


def labelled(table: pl.DataFrame, what: str, notes: list[str]) -> pl.DataFrame:
    """The rows with a label (hard or soft); how many had none is noted.

    Raises:
        DataError: None has one.
    """
    table = comparisons.validate(table, where=f"{what} rows")
    known = ~np.isnan(comparisons.targets(table)).any(axis=1)
    if not known.any():
        raise DataError(f"none of {table.height} {what} rows has a label", expected="votes: a label or p_a, p_b, p_tie")
    if not known.all():
        notes.append(f"{(~known).sum():,} {what} rows have no label and were left out")
    return table.filter(pl.Series(known))


def groups(table: pl.DataFrame) -> pl.Series:
    """What must stand on one side: the column `group`, and where it is null all rows with one prompt."""
    prompt = pl.col("prompt").list.join("\n\n", ignore_nulls=True).str.strip_chars().str.to_lowercase()
    return table.select(pl.coalesce("group", pl.format("prompt {}", prompt)).alias("group")).to_series()


def deal(table: pl.DataFrame, shares: list[float], seed: int) -> np.ndarray:
    """The number of the part each row goes to: whole groups, with the labels spread in proportion to the shares.

    Large groups go first, each to the part that it makes least uneven; a hash of seed and name breaks the order of
    equals, so that the order of rows does not matter.

    Raises:
        DataError: There are fewer groups than parts.
    """

    def draw(name: str) -> bytes:
        return hashlib.sha256(f"{seed} {name}".encode()).digest()

    return dealing.deal(groups(table).to_numpy(), comparisons.targets(table), shares, draw=draw)


def made_up(table: pl.DataFrame) -> pl.Series:
    """Which rows are no votes but a teacher's labels of other pairs: they are trained on and never held out."""
    return table["source"].str.starts_with(soft_labels.PSEUDO).fill_null(value=False)


def _dealt(train: pl.DataFrame, shares: list[float], seed: int) -> np.ndarray:
    """The part of each vote, as if there were no other rows; -1 for a row that is no vote."""
    votes = ~made_up(train).to_numpy()
    dealt = np.full(train.height, -1)
    dealt[votes] = deal(train.filter(pl.Series(votes)), shares, seed)
    return dealt


def _apart(train: pl.DataFrame, held: pl.Series) -> pl.DataFrame:
    """The rows that are not held out, without pseudo-labelled ones of a group that is."""
    own = groups(train)
    beside = made_up(train) & own.is_in(own.filter(held).unique().implode())
    return train.filter(~held & ~beside)


def _folds(train: pl.DataFrame, recipe: Recipe) -> pl.Series:
    given = train.select(pl.when(~made_up(train)).then("fold").alias("fold")).to_series()
    if given.null_count() == len(given):
        dealt = pl.Series("fold", _dealt(train, [1 / recipe.folds] * recipe.folds, recipe.seed))
        return dealt.set(dealt == -1, None)
    found = sorted(given.drop_nulls().unique().to_list())
    if found != list(range(recipe.folds)):
        raise UsageError(
            f"the column fold holds {found}, the recipe has folds={recipe.folds}",
            expected="folds numbered from 0", mend=f"folds={len(found)}",
        )  # fmt: skip
    return given


def _fold(train: pl.DataFrame, fold: pl.Series, number: int) -> Part:
    """Train on the rows of other folds and on those of none."""
    held = (fold == number).fill_null(False)
    return Part(number, _apart(train, held), train.filter(held), held.arg_true().to_numpy())


def _unseen(validation: pl.DataFrame, train: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The validation rows whose group, and whose prompt, was not trained on."""
    bare = [table.with_columns(pl.lit(None, pl.String).alias("group")) for table in (train, validation)]
    seen = groups(validation).is_in(groups(train).unique().implode())
    seen |= groups(bare[1]).is_in(groups(bare[0]).unique().implode())
    if seen.all():
        raise DataError(
            "every validation row shares its prompt or its group with a training row",
            expected="votes on prompts that were not trained on",
            mend="tiebreak data split VOTES --by group",
        )
    if seen.any():
        notes.append(f"{seen.sum():,} validation rows share a prompt or a group with training rows and were left out")
    return validation.filter(~seen)
