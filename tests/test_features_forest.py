"""The reader and evaluator of LightGBM's text format, against LightGBM itself."""

from __future__ import annotations

from collections.abc import Callable

import lightgbm
import numpy as np
import pytest

from tiebreak import judges, samples
from tiebreak.errors import BundleError
from tiebreak.judges.features.forest import Forest
from tiebreak.judges.features.pairs import features
from tiebreak.judges.features.texts import measure
from tiebreak.train.features import boosting

Booster = lightgbm.Booster


def boosted(seed: int, **settings: object) -> tuple[Booster, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(600, 7)).round(2)
    target = (matrix[:, 0] * matrix[:, 1] + rng.normal(size=600) > 0).astype(float)
    given = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 15, "seed": seed, **settings}
    return lightgbm.train(given, lightgbm.Dataset(matrix, target), 40), rng.normal(size=(500, 7)).round(2)


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_depth": 2}, {"num_leaves": 2}, {"learning_rate": 0.9, "bagging_fraction": 0.5, "bagging_freq": 1},
     {"min_data_in_leaf": 400}, {"num_leaves": 60, "min_data_in_leaf": 1}],
)  # fmt: skip
def test_predictions_are_those_of_lightgbm(settings: dict[str, object]) -> None:
    booster, unseen = boosted(1, **settings)
    forest = Forest.parse(booster.model_to_string(), columns=7)
    assert np.abs(forest.predict(unseen) - booster.predict(unseen, raw_score=True)).max() <= 1e-12


def test_values_on_a_threshold_go_left_as_in_lightgbm() -> None:
    booster, _ = boosted(2)
    forest = Forest.parse(booster.model_to_string(), columns=7)
    edges = np.tile(forest.threshold[:50, None], (1, 7))
    assert np.abs(forest.predict(edges) - booster.predict(edges, raw_score=True)).max() <= 1e-12


def test_contributions_and_base_add_up_to_the_prediction() -> None:
    booster, unseen = boosted(3)
    forest = Forest.parse(booster.model_to_string(), columns=7)
    total = forest.contributions(unseen).sum(axis=1) + forest.base
    assert np.abs(total - forest.predict(unseen)).max() <= 1e-12


def test_a_feature_that_no_tree_asks_for_contributes_nothing() -> None:
    booster, unseen = boosted(4)
    forest = Forest.parse(booster.model_to_string(), columns=9)
    wider = np.concatenate([unseen, unseen[:, :2]], axis=1)
    assert (forest.contributions(wider)[:, 7:] == 0).all()
    assert (forest.predict(wider) == forest.predict(unseen)).all()


def test_no_trees_and_no_rows() -> None:
    empty = Forest.parse(boosting.NO_TREES, columns=3)
    assert empty.base == 0
    assert (empty.predict(np.ones((4, 3))) == 0).all()
    booster, unseen = boosted(5)
    assert Forest.parse(booster.model_to_string(), columns=7).predict(unseen[:0]).shape == (0,)


def edit(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    """Change the values of the first field of this name."""

    def apply(text: str) -> str:
        lines = text.split("\n")
        place = next(number for number, line in enumerate(lines) if line.startswith(f"{name}="))
        lines[place] = f"{name}=" + " ".join(change(lines[place].split("=")[1].split()))
        return "\n".join(lines)

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        edit("threshold", lambda values: values[:-1]),
        edit("threshold", lambda values: ["nan", *values[1:]]),
        edit("threshold", lambda values: ["__import__('os')", *values[1:]]),
        edit("leaf_value", lambda values: values[:-1]),
        edit("left_child", lambda values: ["0", *values[1:]]),
        edit("right_child", lambda values: ["9999", *values[1:]]),
        edit("right_child", lambda values: ["-9999", *values[1:]]),
        edit("split_feature", lambda values: ["7", *values[1:]]),
        edit("split_feature", lambda values: ["-1", *values[1:]]),
        edit("decision_type", lambda values: ["1", *values[1:]]),
        edit("num_cat", lambda _: ["1"]),
        edit("is_linear", lambda _: ["1"]),
        edit("num_leaves", lambda _: ["many"]),
        lambda text: text[: len(text) // 3],
    ],
)
def test_a_damaged_file_is_refused(damage: Callable[[str], str]) -> None:
    text = boosted(6)[0].model_to_string()
    Forest.parse(text, columns=7)
    with pytest.raises(BundleError, match=r"trees\.txt"):
        Forest.parse(damage(text), columns=7, where="trees.txt")


def test_splits_made_for_missing_values_are_refused() -> None:
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(400, 2))
    matrix[::3, 0] = np.nan
    target = np.isnan(matrix[:, 0]).astype(float)
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(matrix, target), 2)
    with pytest.raises(BundleError, match="LightGBM"):
        Forest.parse(booster.model_to_string(), columns=2)


@pytest.mark.parametrize("part", ["versus", "tie"])
def test_the_shipped_trees_are_those_that_lightgbm_reads(part: str) -> None:
    text = (judges.EMBEDDED / f"{part}.txt").read_text(encoding="utf-8")
    booster = lightgbm.Booster(model_str=text)
    real = features(measure(samples.votes()))
    matrix = np.concatenate([real.signed, real.symmetric], axis=1) if part == "versus" else real.symmetric
    forest = Forest.parse(text, columns=matrix.shape[1])
    assert np.abs(forest.predict(matrix) - booster.predict(matrix, raw_score=True)).max() <= 1e-12
