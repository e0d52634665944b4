"""Choosing a kernel without leaks, adding votes, and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import retrieval_made
import tiny
from conftest import SHARED
from tiebreak import bundle, comparisons, judges, prepare, row_hashes
from tiebreak.calibration import Calibration
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.retrieval import RetrievalJudge
from tiebreak.judges.retrieval import votes as remembered
from tiebreak.judges.retrieval.kernel import Near, distribution
from tiebreak.judges.retrieval.memory import Memory
from tiebreak.judges.retrieval.votes import Votes
from tiebreak.scoring import row_log_loss
from tiebreak.train.retrieval import Recipe, add_votes, check_votes, train_retrieval
from tiebreak.train.retrieval.candidates import candidates
from tiebreak.train.retrieval.choosing import choose

FEW: dict[str, Any] = {"neighbours": 16, "bandwidth": 0.2, "folds": 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("encoder") / "base", "bert")


def recipe(base: Path, **choices: Any) -> Recipe:
    return Recipe(base=Base(name=str(base)), **(FEW | choices))


def watched(step: int) -> None:
    """Nobody watches."""


def chosen(votes: Votes, group: np.ndarray, **choices: Any) -> Any:
    targets = votes.targets.astype(np.float64)
    return choose(votes, targets, group, Recipe(**choices), watched), targets


def test_each_held_out_row_is_what_a_judge_of_the_other_folds_says() -> None:
    """The study is vectorised over a grid; here every row is judged by itself, through the path that users take."""
    votes = retrieval_made.remembered(150)
    group = np.arange(150) // 2
    study, _ = chosen(votes, group, neighbours=20, mix=0.6, bandwidth=0.3, shrinkage=0.7)
    for fold in range(5):
        inside, held = np.flatnonzero(study.fold != fold), np.flatnonzero(study.fold == fold)
        memory = Memory.build(votes.picked(inside), study.by_fold[fold])
        near = memory.near(
            votes.prompt[held].astype(np.float32), votes.difference[held].astype(np.float32), votes.row[held],
            votes.group[held],
        )  # fmt: skip
        prior = np.array(memory.votes.prior())
        expected = distribution(near, memory.votes.targets.astype(np.float64), prior, study.by_fold[fold])
        np.testing.assert_allclose(study.probabilities[held], expected, atol=1e-4)
        np.testing.assert_allclose(study.prior[held], np.tile(prior, (len(held), 1)))


def test_groups_are_whole_in_folds() -> None:
    votes = retrieval_made.remembered(120)
    group = np.arange(120) % 17
    study, _ = chosen(votes, group, **FEW)
    assert all(len(set(study.fold[group == code])) == 1 for code in range(17))


@pytest.mark.parametrize("turned", [False, True])
def test_copies_of_the_held_out_rows_teach_nothing_where_groups_say_so(turned: bool) -> None:
    """Labels that mean nothing, every row twice (or with its twin): one group a pair leaves no more than the prior."""
    rng = np.random.default_rng(0)
    plain = retrieval_made.remembered(200, seed=1)
    labels = np.eye(3, dtype=np.float32)[rng.integers(3, size=200)]
    once = Votes(plain.prompt, plain.difference, labels, plain.row, plain.group)
    other = labels[:, [1, 0, 2]] if turned else labels
    twin = Votes(plain.prompt, -plain.difference if turned else plain.difference, other, plain.row, plain.group)
    both = once.joined(twin)
    pairs = np.concatenate([np.arange(200), np.arange(200)])
    honest, targets = chosen(both, pairs, neighbours=8, mix=0.5, bandwidth=0.05, shrinkage=1e-3)
    leaking, _ = chosen(both, np.arange(400), neighbours=8, mix=0.5, bandwidth=0.05, shrinkage=1e-3)
    loss = [float(row_log_loss(study.probabilities, targets).mean()) for study in (honest, leaking)]
    assert loss[1] < 0.7, "without groups the copy gives the label away: the injected leak is one"
    assert loss[0] > 1.0, "with them nothing does"


def test_near_duplicates_are_one_group_by_prepare_and_teach_nothing(base: Path) -> None:
    """The same votes with a few words changed: groups of `prepare` keep them from each other."""
    votes = retrieval_made.votes(40, side=0.5).with_columns(group=pl.lit(None, dtype=pl.String))
    long = " ".join(f"word{number}" for number in range(60))
    padded = [(pl.col(name).list.first() + pl.lit(f" {long}")).alias(name) for name in comparisons.TEXTS]
    unique = [pl.format("{} row{}", name, pl.int_range(pl.len()) * 7919).alias(name) for name in comparisons.TEXTS]
    scrambled = votes.with_columns(padded).with_columns(unique)
    near = scrambled.with_columns(pl.format("{} again", name).alias(name) for name in comparisons.TEXTS)
    table = pl.concat([scrambled, near]).with_columns(pl.concat_list(name).alias(name) for name in comparisons.TEXTS)
    table = comparisons.validate(table)
    grouped = prepare.groups(table)
    assert (grouped[:40] == grouped[40:]).all()
    rows = table.with_columns(group=grouped)
    codes = np.unique(grouped.to_numpy(), return_inverse=True)[1]
    encoder = retrieval_made.encoder(base)
    both = Votes.of(rows, remembered.read(rows, encoder))
    found = candidates(both, np.arange(80), codes, (0.0, 1.0), 160, watched)
    for near_ in found.values():
        there = np.isfinite(near_.similarity)
        assert not (codes[near_.vote] == codes[:, None])[there].any()


def test_candidates_are_all_others_nearest_first() -> None:
    votes = retrieval_made.remembered(60)
    group = np.arange(60) // 3
    found = candidates(votes, np.array([5, 17]), group, (0.3,), 500, watched)[0.3]
    assert found.vote.shape == (2, 120)
    assert (found.similarity[:, 1:] <= found.similarity[:, :-1]).all()
    prompts = votes.prompt.astype(np.float64) @ votes.prompt.astype(np.float64).T
    answers = votes.difference.astype(np.float64) @ votes.difference.astype(np.float64).T
    for row, number in enumerate((5, 17)):
        others = np.flatnonzero(group != group[number])
        both = [0.7 * prompts[number, others] + sign * 0.3 * answers[number, others] for sign in (1, -1)]
        np.testing.assert_allclose(
            found.similarity[row][: 2 * len(others)], np.sort(np.concatenate(both))[::-1], atol=1e-5
        )
        assert np.isinf(found.similarity[row][2 * len(others) :]).all()


def test_where_there_is_nothing_to_find_the_prior_is_chosen() -> None:
    rng = np.random.default_rng(3)
    plain = retrieval_made.remembered(240)
    labels = np.eye(3, dtype=np.float32)[rng.integers(3, size=240)]
    study, targets = chosen(
        Votes(plain.prompt, plain.difference, labels, plain.row, plain.group), np.arange(240), folds=3
    )
    change = row_log_loss(study.probabilities, targets) - row_log_loss(study.prior, targets)
    assert abs(change.mean()) < 0.02


def test_where_answers_decide_the_mix_says_so() -> None:
    votes = retrieval_made.remembered(240)
    study, targets = chosen(votes, np.arange(240), folds=3)
    assert study.kernel.mix >= 0.4
    assert row_log_loss(study.probabilities, targets).mean() < row_log_loss(study.prior, targets).mean() - 0.05


def test_more_rows_than_the_sample_are_neighbours_all_the_same() -> None:
    votes = retrieval_made.remembered(300)
    study, _ = chosen(votes, np.arange(300), sample=50, neighbours=16, bandwidth=0.2, mix=0.5)
    assert len(study.rows) == 50
    whole, _ = chosen(votes, np.arange(300), neighbours=16, bandwidth=0.2, mix=0.5, shrinkage=study.kernel.shrinkage)
    again, _ = chosen(
        votes, np.arange(300), sample=50, neighbours=16, bandwidth=0.2, mix=0.5, shrinkage=study.kernel.shrinkage
    )
    np.testing.assert_allclose(again.probabilities, whole.probabilities[study.rows], atol=1e-12)


def test_a_trained_judge_knows_what_it_was_made_of(tmp_path: Path, base: Path) -> None:
    table = retrieval_made.votes(60)
    found = train_retrieval(table, recipe(base), runtime=retrieval_made.FP32)
    found.judge.save(tmp_path / "judge")
    manifest = bundle.read(tmp_path / "judge")
    assert manifest.swap_equivariant
    assert manifest.training[0].fingerprint == comparisons.fingerprint(check_votes(table))
    assert set(manifest.metrics["votes"]) == {"rows", "log_loss", "accuracy", "prior_log_loss", "against_prior"}  # type: ignore[arg-type]
    assert row_hashes.read_trained(tmp_path / "judge") == frozenset(row_hashes.unordered(table))
    assert found.out_of_fold["id"].equals(table["id"])
    assert "60 votes" in (tmp_path / "judge" / "README.md").read_text()


def test_votes_swapped_before_training_make_the_mirrored_judge(base: Path) -> None:
    table = retrieval_made.votes(60)
    one = train_retrieval(table, recipe(base), runtime=retrieval_made.FP32)
    other = train_retrieval(comparisons.swap(table), recipe(base), runtime=retrieval_made.FP32)
    for name in ("p_a", "p_b", "p_tie"):
        np.testing.assert_allclose(
            one.judge.predict(table)[name], other.judge.predict(table)[name], atol=1e-9, err_msg=name
        )


def test_soft_labels_and_weights_count(base: Path) -> None:
    table = retrieval_made.votes(40).with_columns(weight=pl.Series([2.0, 0.5] * 20))
    found = train_retrieval(table, recipe(base), runtime=retrieval_made.FP32).judge
    twice = pl.concat([table.filter(pl.col("weight") == 2.0)] * 4 + [table.filter(pl.col("weight") == 0.5)])
    mass = comparisons.targets(twice).sum(axis=0)
    expected = [mass[:2].mean() / mass.sum()] * 2 + [mass[2] / mass.sum()]
    np.testing.assert_allclose(found.settings.prior, expected, atol=1e-6)


def test_added_votes_make_the_very_bundle_of_all_at_once(tmp_path: Path, base: Path) -> None:
    table = retrieval_made.votes(80)
    fixed = recipe(base, mix=0.5, shrinkage=0.4)
    first = train_retrieval(table[:50], fixed, runtime=retrieval_made.FP32).judge
    whole = train_retrieval(table, fixed, runtime=retrieval_made.FP32).judge
    whole.save(tmp_path / "whole")
    first.save(tmp_path / "first")
    loaded = judges.load(tmp_path / "first", retrieval_made.FP32)
    assert isinstance(loaded, RetrievalJudge)
    grown = add_votes(loaded, table)
    assert (grown.added, grown.known, grown.rebuilt) == (30, 50, False)
    grown.judge.save(tmp_path / "grown")
    for name in (remembered.FILE, row_hashes.TRAINED):
        assert (tmp_path / "grown" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    settings = [bundle.read(tmp_path / name).settings for name in ("grown", "whole")]
    for name in ("kernel", "index", "prior", "votes", "encoder", "manner"):
        assert settings[0][name] == settings[1][name]
    asked = retrieval_made.votes(10, first=300)
    both = [judges.load(tmp_path / name, retrieval_made.FP32).predict(asked) for name in ("grown", "whole")]
    assert both[0].equals(both[1])


def test_what_is_known_already_is_added_no_second_time(base: Path) -> None:
    table = retrieval_made.votes(40)
    judge = train_retrieval(table, recipe(base), runtime=retrieval_made.FP32).judge
    again = add_votes(judge, comparisons.swap(table))
    assert (again.added, again.known) == (0, 40)
    assert again.judge is judge


def test_a_calibrated_judge_takes_no_votes(base: Path) -> None:
    judge = train_retrieval(retrieval_made.votes(40), recipe(base), runtime=retrieval_made.FP32).judge
    flat = Calibration(method="temperature", weight=((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)), bias=(0, 0, 0))
    judge.manifest = judge.manifest.model_copy(update={"calibration": flat})
    with pytest.raises(UsageError, match="calibrated"):
        add_votes(judge, retrieval_made.votes(5, first=90))


@pytest.mark.parametrize(
    "choices",
    [{"folds": 2}, {"index": "tree"}, {"mix": 1.5}, {"bandwidth": 0.0}, {"shrinkage": float("inf")},
     {"neighbours": 0}, {"sample": 0}],
)  # fmt: skip
def test_choices_that_are_none_are_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Recipe(**choices)


def test_too_few_votes_are_refused() -> None:
    with pytest.raises(DataError, match="at least 20 votes"):
        train_retrieval(retrieval_made.votes(40).with_columns(label=pl.lit(None, dtype=comparisons.LABEL)))


def test_similarities_beyond_those_that_are_there_have_no_weight() -> None:
    nothing = Near(np.array([[0.9, np.nan]]), np.zeros((1, 2), dtype=np.int64), np.zeros((1, 2), dtype=bool))
    found = distribution(nothing, np.eye(3), np.array([0.3, 0.3, 0.4]), retrieval_made.KERNEL)
    assert np.isfinite(found).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    from conftest import tiebreak

    here = tmp_path_factory.mktemp("cli")
    retrieval_made.votes(60).drop("group").write_parquet(here / "votes.parquet")
    retrieval_made.votes(20, first=100).drop("group").write_parquet(here / "more.parquet")
    result = tiebreak(
        "train", "retrieval", "--data", "votes.parquet", "-o", "judge", "--base", base, "--folds", 3, "--precision",
        "fp32", "--out-of-fold", "held-out.parquet", "--licence", "votes=CC0", "--json", cwd=here,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (here / "said.json").write_text(result.stdout)
    return here


@pytest.mark.slow
def test_the_command_says_what_it_found(trained: Path) -> None:
    said = json.loads((trained / "said.json").read_text())
    assert {"kernel", "index", "metrics", "bundle"} <= set(said)
    assert said["metrics"]["votes"]["rows"] == 60
    assert pl.read_parquet(trained / "held-out.parquet").height == 60
    manifest = bundle.read(trained / "judge")
    assert manifest.training[0].licence == "CC0"
    assert "tiebreak train retrieval" in (trained / "judge" / "README.md").read_text()


@pytest.mark.slow
def test_the_command_predicts_and_adds(trained: Path, cli: Callable[..., Any]) -> None:
    told = cli("predict", "more.parquet", "--judge", "judge", "-o", "told.parquet", cwd=trained)
    assert told.returncode == 0, told.stderr
    assert pl.read_parquet(trained / "told.parquet").height == 20
    added = cli(
        "train", "retrieval", "--data", "more.parquet", "--add-to", "judge", "-o", "grown", "--json", cwd=trained
    )
    assert added.returncode == 0, added.stderr
    said = json.loads(added.stdout)
    assert (said["added"], said["known"], said["votes"]) == (20, 0, 80)
    assert bundle.read(trained / "grown").settings["votes"] == 80


@pytest.mark.slow
def test_the_command_refuses_what_was_settled(trained: Path, cli: Callable[..., Any]) -> None:
    told = cli("train", "retrieval", "-d", "more.parquet", "--add-to", "judge", "-o", "x", "--mix", "0.5", cwd=trained)
    assert told.returncode == 2
    assert "--mix with --add-to" in told.stderr


@pytest.mark.slow
def test_only_a_retrieval_judge_takes_votes(trained: Path, cli: Callable[..., Any]) -> None:
    embedded = judges.EMBEDDED
    told = cli("train", "retrieval", "-d", "more.parquet", "--add-to", embedded, "-o", "x", cwd=trained)
    assert told.returncode == 2
    assert "a features judge" in told.stderr


def test_a_dry_run_writes_nothing(tmp_path: Path, cli: Callable[..., Any]) -> None:
    retrieval_made.votes(60).write_parquet(tmp_path / "votes.parquet")
    told = cli("train", "retrieval", "-d", "votes.parquet", "-o", "dry", "--dry-run", cwd=tmp_path)
    assert told.returncode == 0
    assert "180 texts" in told.stderr
    assert not (tmp_path / "dry").exists()


@pytest.mark.slow
def test_real_votes_are_told_from_their_neighbours() -> None:
    """Fold by fold the neighbours say more than the prior; how much more is in docs/retrieval.md."""
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    from tiebreak import ingest

    table = ingest.read(SHARED / "kaggle_lmsys_1k.parquet")
    table = table.with_columns(group=prepare.groups(table))
    found = train_retrieval(table)
    (figures,) = found.judge.manifest.metrics.values()
    change, low, high = figures["against_prior"]  # type: ignore[index,call-overload]
    assert low < change < high
    assert -0.03 < change < 0.0
