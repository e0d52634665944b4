"""Training a features judge on votes, and measuring it by grouped cross-validation on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import numpy as np
import polars as pl
from pydantic import JsonValue

from tiebreak import comparisons, row_hashes
from tiebreak.bundle import Manifest, TrainingSource
from tiebreak.errors import DataError
from tiebreak.judges.features import ALL, CARD, Features, FeaturesJudge, extract
from tiebreak.judges.features.wording import Terms, Vocabulary
from tiebreak.train.features import card, fitting, scores, wording
from tiebreak.train.features.recipe import Recipe

Progress = Callable[[int], None]
"""Called with 1 after each fit."""

LEAST_ROWS: Final = 20


@dataclass(frozen=True)
class _Votes:
    """Labelled rows, ready to be taken apart into folds."""

    table: pl.DataFrame
    features: Features
    targets: np.ndarray
    weight: np.ndarray
    source: np.ndarray
    group: np.ndarray
    target_source: str
    terms: tuple[Terms, Terms]
    vocabulary: Vocabulary

    def examples(self, rows: np.ndarray) -> fitting.Examples:
        """What a fit sees of these rows."""
        offset = _tie_offsets(self.targets[rows], self.weight[rows], self.source[rows], self.target_source)
        models = (self.table["model_a"].gather(rows).to_list(), self.table["model_b"].gather(rows).to_list())
        first, second = (side.picked(rows) for side in self.terms)
        spoken = wording.Spoken(first, second, self.targets[rows], self.weight[rows], models)
        return fitting.Examples(
            self.features.picked(rows), self.targets[rows], self.weight[rows], offset, spoken, self.vocabulary
        )


def train_features(
    table: pl.DataFrame, recipe: Recipe | None = None, *, advance: Progress | None = None
) -> FeaturesJudge:
    """Train a judge on votes.

    The first source of the table is the target: the judge is for votes like these. Rows of other sources support it
    with a smaller weight.

    Args:
        table: Comparisons with labels (hard or soft). Rows of one `group` never stand on both sides of a fold; rows
            without a group stand alone (`tiebreak.prepare.groups` finds them).
        recipe: Choices; the defaults made the embedded judge.
        advance: Told after each fit; there are `folds * repeats + 1`.

    Raises:
        DataError: There are too few labelled rows or groups, or all votes are the same.
        MissingExtraError: LightGBM or scikit-learn is not installed.
    """
    recipe = recipe or Recipe()
    fitting.require_libraries()
    votes = _votes(check_votes(table, recipe), recipe)
    step = advance or (lambda _: None)
    metrics = _cross_validate(votes, recipe, step)
    files = fitting.fit(votes.examples(np.arange(votes.table.height)), seed=recipe.seed)
    step(1)
    manifest = _manifest(votes, recipe, metrics)
    seen = row_hashes.trained_rows(votes.table)
    return FeaturesJudge(manifest, {**files, CARD: card.write(manifest, recipe).encode(), row_hashes.TRAINED: seen})


def check_votes(table: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """The labelled rows, with `source`, `group` and `weight` filled in, if a judge can be trained on them.

    Rows of the recipe's fold are not among them; rows of no fold are.

    Raises:
        DataError: There are too few labelled rows or groups, all votes are the same, or no row is of the fold.
    """
    table = _without_fold(comparisons.validate(table), recipe.fold)
    known = ~np.isnan(comparisons.targets(table)).any(axis=1)
    if known.sum() < LEAST_ROWS:
        raise DataError(
            f"{known.sum()} of {table.height} rows have a label",
            expected=f"at least {LEAST_ROWS} votes; a useful judge needs some hundreds",
        )
    votes = table.filter(pl.Series(known)).with_columns(
        pl.col("source").fill_null("votes"),
        pl.col("weight").fill_null(1.0),
        pl.coalesce("group", pl.format("row {}", pl.int_range(pl.len()))).alias("group"),
    )
    mass = (comparisons.targets(votes) * votes["weight"].to_numpy()[:, None]).sum(axis=0)
    if mass[0] == 0 or mass[1] == 0:
        found = " or ".join(name for name, part in zip(comparisons.LABELS, mass, strict=True) if part)
        raise DataError(
            f"all votes are {found}" if found else "no vote has a weight",
            expected="votes for a and votes for b",
            mend="if the better answer always stands on one side, shuffle the sides before training",
        )
    if votes["group"].n_unique() < recipe.folds:
        raise DataError(f"{votes['group'].n_unique()} groups of rows", expected=f"at least {recipe.folds}, one a fold")
    return votes


def _without_fold(table: pl.DataFrame, fold: int | None) -> pl.DataFrame:
    if fold is None:
        return table
    there = table["fold"].drop_nulls().unique().sort().to_list()
    if fold not in there:
        found = f"the column fold holds {there}" if there else "the votes have no column fold"
        raise DataError(
            f"fold {fold}: {found}",
            expected="votes that say which fold holds each of them out",
            mend="" if there else "tiebreak data split VOTES --folds 5 -o folded.parquet",
        )
    return table.filter((pl.col("fold") != fold).fill_null(True))


def _votes(votes: pl.DataFrame, recipe: Recipe) -> _Votes:
    source = votes["source"].to_numpy()
    weight = np.where(source == source[0], 1.0, recipe.support) * votes["weight"].to_numpy()
    known = wording.vocabulary(votes, seed=recipe.seed)
    features, terms = extract(votes, known)
    targets, group = comparisons.targets(votes), votes["group"].to_numpy()
    return _Votes(votes, features, targets, weight, source, group, str(source[0]), terms, known)


def _tie_offsets(targets: np.ndarray, weight: np.ndarray, source: np.ndarray, target_source: str) -> np.ndarray:
    """How much likelier a tie is in each row's source than in the target, in log-odds."""
    offsets = np.zeros(len(targets))
    base = _log_odds(targets[source == target_source, 2], weight[source == target_source])
    for name in np.unique(source):
        rows = source == name
        offsets[rows] = _log_odds(targets[rows, 2], weight[rows]) - base
    return offsets


def _log_odds(share: np.ndarray, weight: np.ndarray) -> float:
    ties, rest = (share * weight).sum() + 0.5, ((1 - share) * weight).sum() + 0.5
    return float(np.log(ties / rest))


def _cross_validate(votes: _Votes, recipe: Recipe, step: Progress) -> dict[str, JsonValue]:
    """Hold out each fold's groups in every source, fit on the rest, and score each source on its own."""
    rng = np.random.default_rng(recipe.seed)
    names, codes = np.unique(votes.group, return_inverse=True)
    predicted = np.empty((recipe.repeats, len(codes), 3))
    for repeat in range(recipe.repeats):
        fold = (rng.permutation(len(names)) % recipe.folds)[codes]
        for number in range(recipe.folds):
            predicted[repeat, fold == number] = _held_out(votes, fold == number, recipe.seed + repeat)
            step(1)
    return scores.by_source(predicted, votes.targets, votes.source, codes, seed=recipe.seed)


def _held_out(votes: _Votes, test: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities for the test rows by a judge fitted on the others, through the path that every user takes."""
    files = fitting.fit(votes.examples(np.flatnonzero(~test)), seed=seed)
    judge = FeaturesJudge(_bare(), files)
    return judge.score(votes.table.filter(pl.Series(test))).probabilities


def _bare() -> Manifest:
    return Manifest(
        kind=FeaturesJudge.kind,
        name="features",
        swap_equivariant=True,
        settings={
            "signed": list(ALL.signed),
            "symmetric": list(ALL.symmetric),
        },
    )


def _manifest(votes: _Votes, recipe: Recipe, metrics: dict[str, JsonValue]) -> Manifest:
    names = list(dict.fromkeys(votes.source.tolist()))
    parts = {name: votes.table.filter(pl.Series(votes.source == name)) for name in names}
    training = [
        TrainingSource(
            name=name,
            rows=part.height,
            fingerprint=comparisons.fingerprint(part),
            licence=recipe.licences.get(name),
        )
        for name, part in parts.items()
    ]
    bare = _bare()
    choices: dict[str, JsonValue] = {
        "target": votes.target_source,
        "support": recipe.support,
        "seed": recipe.seed,
        **({} if recipe.fold is None else {"fold": recipe.fold}),
    }
    return bare.model_copy(
        update={
            "name": recipe.title,
            "settings": bare.settings | choices,
            "training": training,
            "metrics": metrics,
            "versions": {name: version(name) for name in ("tiebreak", "polars", "numpy", "lightgbm", "scikit-learn")},
        }
    )
