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
    "num_threads": 2,
    "verbose": -1,
}

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
    booster = lightgbm.train({**SETTINGS, "seed": seed}, data, rounds)
    text: str = booster.model_to_string()
    return text[: text.index("\nfeature_importances")] + "\nend of trees\n" if "\nfeature_importances" in text else text
