"""Small boosted trees, strongly regularised and the same on every run."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from tiebreak.errors import MissingExtraError

SETTINGS: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "max_depth": 4,
    "num_leaves": 12,
    "min_data_in_leaf": 40,
    "lambda_l2": 20.0,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "boost_from_average": False,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}

_END: Final = "end of trees"
_MANY_ROWS: Final = 50_000
"""Below, a second thread costs more in waiting than it gives, many times more where processors are shared."""

NO_TREES: Final = "tree\n"
"""A forest that adds nothing."""


def library() -> Any:
    """LightGBM, or a message that says how to get it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtraError("lightgbm", "train", "training a features judge") from error
    return lightgbm


def fit(
    matrix: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    *,
    rounds: int,
    seed: int,
    offset: np.ndarray | None = None,
) -> str:
    """Boost trees for P(1) = sigmoid(offset + trees); LightGBM's text format comes back.

    Args:
        matrix: Features, a row an example.
        target: 0 or 1 for each row.
        weight: Weight of each row.
        rounds: How many trees.
        seed: Seed of the bagging.
        offset: Known part of the log-odds.
    """
    lightgbm = library()
    data = lightgbm.Dataset(matrix, target, weight=weight, init_score=offset)
    threads = 1 if len(matrix) < _MANY_ROWS else 2
    booster = lightgbm.train({**SETTINGS, "seed": seed, "num_threads": threads}, data, rounds)
    text: str = booster.model_to_string()
    # Importances and parameters follow: they say nothing that a prediction needs.
    return text.partition(_END)[0] + _END + "\n"
