"""Learning what the wording of an answer says: from votes, and from how often the model behind it wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tiebreak.errors import MissingExtraError
from tiebreak.judges.features.wording import Terms, Vocabulary, Wording
from tiebreak.judges.features.words import units

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LEAST_ANSWERS: Final = 5
"""A term that stands in fewer answers is not learned from, and does not get into a bundle."""

MOST_TERMS: Final = 40_000
_SAMPLED: Final = 20_000

_VOTE_RIDGE: Final = 1 / 6
_VOTE_SHARE: Final = 0.4
_RATING_RIDGE: Final = 1.0
_RATING_SHARE: Final = 1.0


def vocabulary(table: pl.DataFrame, *, seed: int) -> Vocabulary:
    """The terms that stand in enough answers of a table; of a very large table a sample is searched."""
    answers = pl.concat([table[side].alias("text") for side in ("response_a", "response_b")]).to_frame()
    if answers.height > _SAMPLED:
        answers = answers.sample(_SAMPLED, seed=seed)
    turns = answers.with_row_index("answer").explode("text").fill_null("")
    tokens = turns.select("answer", units(pl.col("text").str.to_lowercase()).alias("text")).explode("text")
    follows = pl.col("answer") == pl.col("answer").shift(-1)
    pairs = tokens.select("answer", pl.when(follows).then(pl.col("text") + " " + pl.col("text").shift(-1)))
    frequent = (
        pl.concat([tokens, pairs.drop_nulls()])
        .unique()
        .group_by("text")
        .len()
        .filter(pl.col("len") >= LEAST_ANSWERS)
        .sort(["len", "text"], descending=[True, False])
        .head(MOST_TERMS)
    )
    return Vocabulary(tuple(frequent["text"].sort()))


@dataclass(frozen=True)
class Spoken:
    """The answers of some votes.

    Attributes:
        a: How often each term stands in answer A.
        b: The same for answer B.
        targets: Shape (rows, 3).
        weight: Weight of each row.
        models: The names of the models behind A and B, or None where they are not known.
    """

    a: Terms
    b: Terms
    targets: np.ndarray
    weight: np.ndarray
    models: tuple[Sequence[str | None], Sequence[str | None]]


def fit(spoken: Spoken, known: Vocabulary) -> Wording:
    """Weigh the terms that stand in enough of these answers."""
    size = len(known.terms)
    present = np.bincount(np.concatenate([spoken.a.terms, spoken.b.terms]), minlength=size)
    kept = np.flatnonzero(present >= LEAST_ANSWERS)
    answers = 2 * spoken.a.height
    rarity = np.log((1 + answers) / (1 + present[kept])) + 1
    first, second = (_matrix(side, kept, rarity, size) for side in (spoken.a, spoken.b))
    weight = _VOTE_SHARE * _from_votes(first - second, spoken) + _RATING_SHARE * _from_ratings(first, second, spoken)
    return Wording(Vocabulary(tuple(known.terms[term] for term in kept)), rarity, weight)


def _matrix(side: Terms, kept: np.ndarray, rarity: np.ndarray, size: int) -> csr_matrix:
    """Unit vectors over the kept terms, exactly as `Wording` makes them."""
    from scipy.sparse import csr_matrix

    number = np.full(size, -1)
    number[kept] = np.arange(len(kept))
    there = number[side.terms] >= 0
    terms = Terms(side.rows[there], number[side.terms[there]], side.values[there], side.height).weighed(rarity)
    return csr_matrix((terms.values, (terms.rows, terms.terms)), shape=(side.height, len(kept)))


def _from_votes(difference: csr_matrix, spoken: Spoken) -> np.ndarray:
    """Ridge logistic regression of A against B on the difference of the two answers' vectors."""
    from scipy.sparse import vstack

    linear_model = library()
    p_a, p_b = (spoken.targets[:, side] * spoken.weight for side in (0, 1))
    if not (difference.shape[1] and p_a.any() and p_b.any()):
        return np.zeros(difference.shape[1])
    design = vstack([difference[p_a > 0], difference[p_b > 0]])
    target = np.repeat([1, 0], [int((p_a > 0).sum()), int((p_b > 0).sum())])
    weight = np.concatenate([p_a[p_a > 0], p_b[p_b > 0]])
    model = linear_model.LogisticRegression(C=1 / _VOTE_RIDGE, fit_intercept=False, max_iter=1000)
    found: np.ndarray = model.fit(design, target, sample_weight=weight).coef_[0]
    return found


def _from_ratings(first: csr_matrix, second: csr_matrix, spoken: Spoken) -> np.ndarray:
    """Ridge regression of a model's rating on the vectors of its answers."""
    from scipy.sparse import vstack

    from tiebreak.train.features.ratings import ratings

    rating = ratings(spoken.models, spoken.targets, spoken.weight)
    if rating is None or not first.shape[1]:
        return np.zeros(first.shape[1])
    known = [np.isfinite(side) for side in rating]
    design = vstack([first[known[0]], second[known[1]]])
    target = np.concatenate([side[there] for side, there in zip(rating, known, strict=True)])
    weight = np.concatenate([spoken.weight[there] for there in known])
    model = library().Ridge(alpha=_RATING_RIDGE, solver="sparse_cg", tol=1e-8)
    found: np.ndarray = model.fit(design, target, sample_weight=weight).coef_
    return found


def library() -> Any:
    """scikit-learn's linear models, or a message that says how to get them.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        from sklearn import linear_model
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train", "training a features judge") from error
    return linear_model
