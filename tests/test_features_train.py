"""Training a features judge: it learns, repeats itself, keeps test groups apart, and refuses what it cannot use."""

from __future__ import annotations

import builtins
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tiebreak import comparisons, judges, predictions, samples, train
from tiebreak.errors import DataError, MissingExtraError, UsageError
from tiebreak.judges.features import FeaturesJudge
from tiebreak.judges.features.linear import Linear
from tiebreak.scoring import log_loss
from tiebreak.train.features import fitting, logistic, ratings

Cli = Callable[..., subprocess.CompletedProcess[str]]
FEW = train.Recipe(folds=3)


def made_up(rows: int, *, seed: int = 0, ties: bool = True) -> pl.DataFrame:
    """Votes of somebody who likes long answers, has a tie where they are about as long, and cannot stand "zonk"."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 60, size=(rows, 2))
    zonk = rng.random((rows, 2)) < 0.2
    merit = np.log(lengths) - 3 * zonk
    gap = merit[:, 0] - merit[:, 1]
    labels = np.where(gap > 0, "a", "b").astype(object)
    if ties:
        labels[np.abs(gap) < 0.25] = "tie"
    words = np.array(["red", "green", "blue", "stone", "river", "cloud", "seven"])

    def answer(row: int, side: int) -> str:
        text = " ".join(rng.choice(words, lengths[row, side]))
        return f"{text} zonk" if zonk[row, side] else text

    return comparisons.validate(
        pl.DataFrame(
            {
                "id": [str(row) for row in range(rows)],
                "prompt": [[f"question {row}"] for row in range(rows)],
                "response_a": [[answer(row, 0)] for row in range(rows)],
                "response_b": [[answer(row, 1)] for row in range(rows)],
                "label": labels.tolist(),
            }
        )
    )


def quality(judge: judges.Judge, votes: pl.DataFrame) -> float:
    return log_loss(predictions.probabilities(judge.predict(votes)), comparisons.targets(votes))


def first(judge: FeaturesJudge, figure: str) -> float:
    value: Any = next(iter(judge.manifest.metrics.values()))
    return float(value[figure][0] if isinstance(value[figure], list) else value[figure])


@pytest.fixture(scope="module")
def judge() -> FeaturesJudge:
    return train.train_features(made_up(400), FEW)


def test_it_learns_what_there_is_to_learn(judge: FeaturesJudge) -> None:
    unseen = made_up(300, seed=1)
    assert quality(judge, unseen) < 0.75
    assert abs(first(judge, "log_loss") - quality(judge, unseen)) < 0.12
    assert first(judge, "log_loss") < first(judge, "prior_log_loss") - 0.2
    assert judge.compare("question", "red stone " * 10, "red stone " * 9 + "red zonk").p_a > 0.6


def test_the_same_votes_and_seed_give_the_same_bundle(tmp_path: Path) -> None:
    votes = made_up(120)
    first_run, second_run = (train.train_features(votes, FEW) for _ in range(2))
    assert first_run.weights() == second_run.weights()
    assert first_run.manifest == second_run.manifest
    other = train.train_features(votes, train.Recipe(folds=3, seed=5))
    assert other.weights() != first_run.weights()


def test_a_trained_judge_is_exactly_mirrored_and_can_be_saved(judge: FeaturesJudge, tmp_path: Path) -> None:
    unseen = made_up(100, seed=2)
    judge.save(tmp_path / "judge")
    loaded = judges.load(tmp_path / "judge")
    p = predictions.probabilities(loaded.predict(unseen))
    assert (p == predictions.probabilities(judge.predict(unseen))).all()
    assert (p[:, [1, 0, 2]] == predictions.probabilities(loaded.predict(comparisons.swap(unseen)))).all()


def test_votes_without_any_tie_make_a_judge_of_two_classes() -> None:
    judge = train.train_features(made_up(150, ties=False), FEW)
    p = predictions.probabilities(judge.predict(made_up(50, seed=3)))
    assert p[:, 2].max() < 0.02


def test_soft_labels_and_weights_are_learned_from() -> None:
    votes = made_up(250, ties=False)
    p_a = (votes["label"] == "a").cast(pl.Float64) * 0.6 + 0.1
    soft = votes.with_columns(label=None, p_a=p_a, p_b=0.8 - p_a, p_tie=pl.lit(0.2))
    p = predictions.probabilities(train.train_features(soft, FEW).predict(made_up(100, seed=4, ties=False)))
    assert abs(p[:, 2].mean() - 0.2) < 0.05
    wrong = comparisons.swap(made_up(250, seed=9)).with_columns(label=made_up(250, seed=9)["label"])
    mixed = pl.concat([made_up(250).with_columns(weight=1.0), wrong.with_columns(weight=0.0)])
    assert quality(train.train_features(mixed, FEW), made_up(100, seed=5)) < 0.9


def test_groups_of_a_test_fold_are_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [f"g{row // 4}" for row in range(120)]
    votes = made_up(120).with_columns(
        group=pl.Series(groups), source=pl.Series(["one", "two"] * 60), model_a=pl.Series(groups)
    )
    seen: list[set[str]] = []
    scored: list[set[str]] = []
    fit, score = fitting.fit, FeaturesJudge.score

    def watched_fit(examples: fitting.Examples, *, seed: int) -> dict[str, bytes]:
        seen.append({str(name) for name in examples.spoken.models[0]})
        return fit(examples, seed=seed)

    def watched_score(self: FeaturesJudge, table: pl.DataFrame) -> judges.Scores:
        scored.append(set(table["group"]))
        return score(self, table)

    monkeypatch.setattr(fitting, "fit", watched_fit)
    monkeypatch.setattr(FeaturesJudge, "score", watched_score)
    judge = train.train_features(votes, train.Recipe(folds=4, repeats=2))
    assert len(scored) == 8
    for trained, tested in zip(seen, scored, strict=False):
        assert not trained & tested
        assert trained | tested == set(groups)
    assert seen[-1] == set(groups)
    assert list(judge.manifest.metrics) == ["one", "two"]


def test_supporting_votes_weigh_less_than_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = made_up(80).with_columns(source=pl.Series(["mine"] * 40 + ["theirs"] * 40), weight=pl.lit(2.0))
    weights: list[np.ndarray] = []
    fit = fitting.fit
    monkeypatch.setattr(
        fitting, "fit", lambda examples, seed: (weights.append(examples.weight), fit(examples, seed=seed))[1]
    )
    judge = train.train_features(votes, train.Recipe(folds=2, support=0.25))
    assert weights[-1].tolist() == [2.0] * 40 + [0.5] * 40
    assert judge.manifest.settings["target"] == "mine"
    assert [source.rows for source in judge.manifest.training] == [40, 40]


def test_the_model_behind_an_answer_teaches_its_wording() -> None:
    """Ratings reach terms that the votes alone say little about."""
    votes = made_up(200)
    named = votes.with_columns(model_a=pl.lit(None, pl.String), model_b=pl.lit(None, pl.String))
    zonk = [pl.col(side).list.first().str.contains("zonk") for side in ("response_a", "response_b")]
    by_zonk = votes.with_columns(
        model_a=pl.when(zonk[0]).then(pl.lit("weak")).otherwise(pl.format("m{}", pl.int_range(pl.len()) % 3)),
        model_b=pl.when(zonk[1]).then(pl.lit("weak")).otherwise(pl.format("m{}", pl.int_range(pl.len()) % 3)),
    )
    texts = ("question", "red river blue", "red river zonk")
    without, with_names = (train.train_features(table, FEW).compare(*texts).p_b for table in (named, by_zonk))
    assert with_names < without


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda votes: votes.head(10), "10 of 10 rows have a label"),
        (lambda votes: votes.with_columns(label=None), "0 of 60 rows have a label"),
        (lambda votes: votes.with_columns(label=pl.lit("tie")), "all votes are tie"),
        (lambda votes: votes.with_columns(label=pl.lit("a")), "all votes are a"),
        (lambda votes: votes.with_columns(weight=pl.lit(0.0)), "no vote has a weight"),
        (lambda votes: votes.with_columns(group=pl.lit("one")), "1 groups"),
        (
            lambda votes: votes.with_columns(
                label=pl.Series(["a", "b", *["tie"] * 58]), group=pl.Series(["one"] * 2 + ["two"] * 58)
            ),
            "at least 5",
        ),
        (
            lambda votes: votes.with_columns(
                label=pl.Series(["a", "b", *["tie"] * 58]),
                group=pl.Series([f"g{max(row - 1, 0)}" for row in range(60)]),
            ),
            "outside a test fold are all ties",
        ),
    ],
)
def test_votes_that_cannot_be_learned_from_are_refused(
    change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        train.train_features(change(made_up(60)))


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"repeats": 0}, {"support": 1.5}, {"support": -0.1}])
def test_recipes_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        train.Recipe(**wrong)


@pytest.mark.parametrize("module", ["lightgbm", "sklearn"])
def test_a_missing_extra_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == module:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("tiebreak.train.features.training.extract", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(MissingExtraError, match=r"tiebreak\[train\]"):
        train.train_features(made_up(60))


def test_logistic_regression_is_at_its_optimum() -> None:
    """The gradient of the penalised likelihood, taken numerically, vanishes at the solution."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 3))
    target = (rng.random(200) < 1 / (1 + np.exp(-matrix[:, 0]))).astype(float)
    weight, offset = rng.random(200) + 0.5, rng.normal(size=200) / 3
    found = logistic.fit(matrix, target, weight, ridge=2.0, odd=False, offset=offset)

    def cost(change: np.ndarray) -> float:
        moved = Linear(found.centre, found.scale, found.weight + change[:3], found.intercept + change[3])
        score = moved.predict(matrix) + offset
        fit = (weight * (np.logaddexp(0, score) - target * score)).sum()
        return float(fit + (moved.weight**2).sum())

    steps = np.eye(4) * 1e-5
    slopes = [(cost(step) - cost(-step)) / 2e-5 for step in steps]
    assert np.abs(slopes).max() < 1e-4
    odd = logistic.fit(matrix, target, weight, ridge=2.0, odd=True)
    assert (odd.predict(-matrix) == -odd.predict(matrix)).all()


def test_ratings_order_models_by_their_wins_and_shrink() -> None:
    names = (["x", "x", "y", "x", None, "alone"], ["y", "z", "z", "y", "y", None])
    targets = np.eye(3)[[0, 0, 0, 2, 0, 1]]
    found = ratings.ratings(names, targets, np.ones(6))
    assert found is not None
    a, b = found
    x, y, z = a[0], b[0], b[1]
    assert x > y > z
    assert abs(x + y + z) < 1e-9
    assert np.isnan(a[4:]).all()
    assert b[4] == y
    assert abs(x - z) < 4


def test_ratings_of_two_models_by_closed_form() -> None:
    """With two equal rivals of a third, d/dr of the likelihood vanishes where shrinkage balances wins."""
    names = (["x"] * 3 + ["x"] * 3, ["y"] * 3 + ["z"] * 3)
    targets = np.eye(3)[[0, 0, 1, 0, 0, 1]]
    found = ratings.ratings(names, targets, np.ones(6))
    assert found is not None
    x, y = found[0][0], found[1][0]
    chance = 1 / (1 + np.exp(y - x))
    assert abs(6 * (2 / 3 - chance) - 0.5 * x) < 1e-8
    assert abs(3 * (2 / 3 - chance) + 0.5 * y) < 1e-8


def test_without_names_there_are_no_ratings() -> None:
    assert ratings.ratings(([None] * 4, [None] * 4), np.eye(3)[[0, 1, 2, 0]], np.ones(4)) is None
    assert ratings.ratings((["unknown"] * 4, ["unknown"] * 4), np.eye(3)[[0, 1, 2, 0]], np.ones(4)) is None


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("train")
    made_up(100).write_parquet(here / "mine.parquet")
    samples.votes().write_parquet(here / "samples.parquet")
    made_up(60).with_columns(label=pl.lit("tie")).write_parquet(here / "ties.parquet")
    return here


def test_the_command_writes_a_judge_and_its_card(cli: Cli, files: Path) -> None:
    done = cli(
        "train", "features", "--data", "mine.parquet", "--data", "samples.parquet", "-o", "judge", "--folds", "2",
        "--licence", "mine=CC0-1.0", "--name", "our users", "--json", cwd=files,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["name"] == "our users"
    assert set(document["metrics"]) == {"mine", "samples"}
    card = (files / "judge" / "README.md").read_text(encoding="utf-8")
    assert "# our users" in card
    assert "CC0-1.0" in card
    assert "--data mine.parquet --data samples.parquet -o judge --folds 2" in card
    value, low, high = document["metrics"]["mine"]["log_loss"]
    assert low < value < high
    assert f"{value:.4f} [{low:.4f}, {high:.4f}]" in card
    asked = cli("compare", "-p", "question", "-a", "red stone river", "-b", "zonk", "-j", "judge", "--json", cwd=files)
    assert asked.returncode == 0, asked.stderr


def test_a_dry_run_checks_and_writes_nothing(cli: Cli, files: Path) -> None:
    done = cli("train", "features", "--data", "mine.parquet", "-o", "nothing", "--dry-run", cwd=files)
    assert done.returncode == 0, done.stderr
    assert "100 rows" in done.stderr
    assert "would fit 6 times" in done.stderr
    assert not (files / "nothing").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "ties.parquet"], 3, "all votes are tie"),
        (["--data", "ties.parquet", "--dry-run"], 3, "all votes are tie"),
        (["--data", "absent.parquet"], 3, "absent.parquet"),
        (["--data", "mine.parquet", "--data", "mine.parquet"], 2, "same name"),
        (["--data", "mine.parquet", "--licence", "other=MIT"], 2, "other=MIT"),
        (["--data", "mine.parquet", "--folds", "1"], 2, "folds"),
    ],
)
def test_failures_have_their_code(cli: Cli, files: Path, arguments: list[str], code: int, message: str) -> None:
    done = cli("train", "features", *arguments, "-o", "nothing", cwd=files)
    assert done.returncode == code
    assert message in done.stderr
    assert not (files / "nothing").exists()
