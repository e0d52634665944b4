"""The rungs that learn: each takes votes and gives a function from rows to probabilities.

All of them are exactly swap-equivariant: a score of A against B that changes sign when A and B change places, and a
score of a tie that does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions, train
from tiebreak.errors import MissingExtraError
from tiebreak.train.features import boosting, logistic

Learner = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Learn from some rows (first argument: their indices), predict others (second argument): shape (rows, 3)."""

_LENGTH_RIDGE: Final = 1.0


@dataclass(frozen=True)
class Labelled:
    """Labelled rows, ready to be taken apart into folds.

    Attributes:
        table: Validated comparisons, every row with a label and a weight above 0.
        targets: Hard or soft labels, shape (rows, 3).
        weights: Row weights.
        groups: Codes from 0; rows of one group stay together.
    """

    table: pl.DataFrame
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray


def prior(votes: Labelled, seed: int) -> Learner:
    """The class shares of the rows learned from."""
    del seed

    def learn(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        shares = np.average(votes.targets[inside], axis=0, weights=votes.weights[inside])
        return np.tile(shares, (len(outside), 1))

    return learn


def length(votes: Labelled, seed: int) -> Learner:
    """A against B from how many times as long A is; a tie from how unequal and how long the answers are."""
    del seed
    a, b = (_characters(votes.table, name) for name in ("response_a", "response_b"))
    # A difference of logarithms, not the logarithm of a quotient: only the former changes sign exactly.
    ratio, total = np.log(a + 1) - np.log(b + 1), np.log(a + b + 1)
    signed, symmetric = ratio[:, None], np.stack([np.abs(ratio), total], axis=1)

    def learn(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        p, w = votes.targets[inside], votes.weights[inside]
        both = (np.concatenate([signed[inside], -signed[inside]]), np.repeat([1.0, 0.0], len(inside)))
        # Every vote both ways round: P(A) of the weight says that A wins, P(B) that B does.
        mirrored = np.concatenate([both[0], both[0]])
        outcome = np.concatenate([both[1], 1 - both[1]])
        mass = np.concatenate([p[:, 0] * w, p[:, 0] * w, p[:, 1] * w, p[:, 1] * w]) / 2
        versus = logistic.fit(mirrored, outcome, mass, ridge=_LENGTH_RIDGE, odd=True).predict(signed[outside])
        tie = logistic.fit(symmetric[inside], p[:, 2], w, ridge=_LENGTH_RIDGE, odd=False).predict(symmetric[outside])
        return assemble(versus, tie)

    return learn


def features(votes: Labelled, seed: int) -> Learner:
    """The embedded judge's features and recipe, learned anew from these votes alone.

    Raises:
        MissingExtraError: LightGBM is not installed.
    """
    boosting.library()
    recipe = train.Recipe(folds=2, seed=seed)
    # To the recipe, sources are main and supporting ones; here every vote counts the same.
    table = votes.table.with_columns(source=pl.lit(None, dtype=pl.String))

    def learn(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        judge = train.train_features(table[inside], recipe)
        return predictions.probabilities(judge.predict(table[outside]))

    return learn


def tfidf(votes: Labelled, seed: int) -> Learner:
    """Words: the difference of the answers' TF-IDF vectors for A against B, their sum and gap for a tie.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    text, linear = _sklearn()
    answers = [_joined(votes.table, name) for name in ("response_a", "response_b")]

    def learn(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        words = text.TfidfVectorizer(
            sublinear_tf=True, min_df=3, ngram_range=(1, 2), max_features=30_000, dtype=np.float64
        )
        words.fit([answer[row] for answer in answers for row in inside])
        a, b = (words.transform([answer[row] for row in inside]) for answer in answers)
        p, w = votes.targets[inside], votes.weights[inside]
        versus = linear.LogisticRegression(C=3.0, fit_intercept=False, max_iter=1000, random_state=seed)
        versus.fit(*_both_ways(a - b, p[:, 0] * w, p[:, 1] * w))
        tie = linear.LogisticRegression(C=0.3, max_iter=1000, random_state=seed)
        tie.fit(*_weighted(_symmetric(a, b), p[:, 2] * w, (1 - p[:, 2]) * w))
        a, b = (words.transform([answer[row] for row in outside]) for answer in answers)
        return assemble(versus.decision_function(a - b), tie.decision_function(_symmetric(a, b)))

    return learn


def assemble(versus: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Probabilities from the log-odds of A against B and of a tie against the rest, mirrored to the last bit."""
    ties = _sigmoid(tie)
    return np.stack([_sigmoid(versus) * (1 - ties), _sigmoid(-versus) * (1 - ties), ties], axis=1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return result


def _characters(table: pl.DataFrame, name: str) -> np.ndarray:
    return table.select(comparisons.characters(name)).to_series().to_numpy().astype(np.float64)


def _joined(table: pl.DataFrame, name: str) -> list[str]:
    return table.select(pl.col(name).list.join("\n", ignore_nulls=True)).to_series().to_list()


def _sklearn() -> tuple[Any, Any]:
    try:
        import sklearn.linear_model
        from sklearn.feature_extraction import text
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train", "the TF-IDF rung") from error
    return text, sklearn.linear_model


def _symmetric(a: Any, b: Any) -> Any:
    from scipy.sparse import hstack

    return hstack([a + b, abs(a - b)], format="csr")


def _both_ways(difference: Any, for_a: np.ndarray, for_b: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """Rows, outcomes and weights: each vote for A and the mirror of each vote for B say that the first one wins."""
    from scipy.sparse import vstack

    return _weighted(vstack([difference, -difference], format="csr"), *(
        np.concatenate(pair) for pair in ((for_a, for_b), (for_b, for_a))
    ))  # fmt: skip


def _weighted(matrix: Any, positive: np.ndarray, negative: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """A soft label as two hard rows, each with its share of the weight; rows without weight are left out."""
    from scipy.sparse import vstack

    yes, no = np.flatnonzero(positive > 0), np.flatnonzero(negative > 0)
    outcome = np.concatenate([np.ones(len(yes)), np.zeros(len(no))])
    return vstack([matrix[yes], matrix[no]], format="csr"), outcome, np.concatenate([positive[yes], negative[no]])


LEARNERS: Final[dict[str, Callable[[Labelled, int], Learner]]] = {
    "prior": prior,
    "length": length,
    "features": features,
    "tfidf": tfidf,
}


def labelled(frame: pl.DataFrame, groups: np.ndarray) -> Labelled:
    """The rows that have a label and a weight above 0, with their groups."""
    targets = comparisons.targets(frame)
    weights = frame["weight"].fill_null(1.0).to_numpy()
    used = ~np.isnan(targets).any(axis=1) & (weights > 0)
    codes = np.unique(groups[used], return_inverse=True)[1].reshape(-1)
    return Labelled(frame.filter(pl.Series(used)), targets[used], weights[used], codes)
