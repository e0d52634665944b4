"""Ablations as they run: one deal for all, changes that would compare other rows, stopped and gone on with, tidied."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import finetune_rows
from tiebreak import cli, comparisons, predictions, row_hashes, samples
from tiebreak.errors import StoppedError, UsageError
from tiebreak.train.finetune import ablation, folding
from tiebreak.train.finetune.recipe import Recipe

VOTES = finetune_rows.votes(60)


def recipe(**changes: Any) -> Recipe:
    return finetune_rows.recipe(Path("nowhere"), **{"folds": 3, **changes})


WITH = {"focal": recipe(loss={"focal": 2.0})}


class Trainings:
    """Stands for `finetune`: says of each held-out row what its text, the seed and the recipe decide."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls: list[tuple[Recipe, pl.DataFrame, pl.DataFrame | None, bool]] = []
        self.stop_at = stop_at

    def __call__(
        self, given: Recipe, train: pl.DataFrame, validation: pl.DataFrame | None, output: Path, *, resume: bool,
        report: Callable[[Any], None],
    ) -> Any:  # fmt: skip
        self.calls.append((given, train, validation, resume))
        if len(self.calls) == self.stop_at:
            raise StoppedError("asked to stop")
        for folder in (output, output.with_name(f"{output.name}.run")):
            folder.mkdir()
            (folder / "weights").write_text("large")
        todo, _ = folding.parts(given, train, validation)
        held = pl.concat([part.validation for part in todo if part.validation is not None])
        held = train if given.folds else held
        numbers = row_hashes.content(held).str.slice(0, 6).map_elements(lambda text: int(text, 16), pl.Int64).to_numpy()
        spread = np.random.default_rng(given.seed).random(3)
        logits = np.sin(numbers[:, None] * spread) + comparisons.targets(held) * (2 if given.loss.focal else 1)
        table = predictions.build(held["id"], predictions.softmax(logits))
        return SimpleNamespace(validation=table[::-1], metrics={"seed": given.seed}, warnings=[])


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(ablation, "finetune", made)
    return made


def test_every_training_has_the_same_rows_folds_and_seeds(trainings: Trainings, tmp_path: Path) -> None:
    found = ablation.ablate(recipe(), WITH, VOTES, None, tmp_path / "out", seeds=2)
    assert [(call[0].seed, call[0].loss.focal) for call in trainings.calls] == [(3, 0), (3, 2), (4, 0), (4, 2)]
    expected = folding.deal(VOTES, [1 / 3] * 3, 3)
    for _, train, validation, _ in trainings.calls:
        assert train["fold"].to_list() == expected.tolist()
        assert validation is None
    (change,) = found.changes
    assert change.verdict == "helps"
    assert (found.rows, found.folds, found.seeds) == (60, 3, 2)
    assert json.loads((tmp_path / "out" / ablation.REPORT).read_text()) == found.to_dict()


def test_the_prior_is_that_of_the_rows_each_fold_was_trained_on() -> None:
    votes = ablation.deal(recipe(), VOTES, None)
    for fold in range(3):
        held = (votes.held_out["fold"] == fold).to_numpy()
        rest = votes.held_out.filter(pl.Series(~held))
        mass = (comparisons.targets(rest) * rest["weight"].to_numpy()[:, None]).sum(axis=0)
        assert votes.prior[held] == pytest.approx(np.tile(mass / mass.sum(), (held.sum(), 1)))
    assert votes.held_out["id"].to_list() == VOTES["id"].to_list()


def test_rows_that_no_fold_holds_out_are_trained_on_and_not_measured(trainings: Trainings) -> None:
    fold = [None if i < 12 else (i // 2) % 3 for i in range(60)]
    votes = ablation.deal(recipe(), VOTES.with_columns(pl.Series("fold", fold, pl.Int64)), None)
    assert votes.train["fold"].to_list() == fold
    assert votes.held_out["id"].to_list() == [str(i) for i in range(12, 60)]
    assert len(votes.prior) == 48


def test_without_folds_one_part_is_held_out_from_every_seed(trainings: Trainings, tmp_path: Path) -> None:
    base = recipe(folds=0, data={"validation_share": 0.3})
    found = ablation.ablate(base, {"f": base.model_copy(update={"loss": WITH["focal"].loss})}, VOTES, None,
                            tmp_path / "out", seeds=2)  # fmt: skip
    held = {tuple(call[2]["id"]) for call in trainings.calls if call[2] is not None}
    assert len(held) == 1
    assert found.folds == 0
    assert found.rows == len(next(iter(held)))


def test_stopped_and_gone_on_with_trains_nothing_twice(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = ablation.ablate(recipe(), WITH, VOTES, None, tmp_path / "whole", seeds=2)
    stopped = Trainings(stop_at=3)
    monkeypatch.setattr(ablation, "finetune", stopped)
    with pytest.raises(StoppedError):
        ablation.ablate(recipe(), WITH, VOTES, None, tmp_path / "out", seeds=2)
    rest = Trainings()
    monkeypatch.setattr(ablation, "finetune", rest)
    assert ablation.ablate(recipe(), WITH, VOTES, None, tmp_path / "out", seeds=2) == whole
    assert [(call[0].seed, call[0].loss.focal) for call in rest.calls] == [(4, 0), (4, 2)]
    # Another change into the same folder: the trainings without it are there.
    other = {"smooth": recipe(loss={"smoothing": 0.1})}
    ablation.ablate(recipe(), other, VOTES, None, tmp_path / "out", seeds=2)
    assert [call[0].loss.smoothing for call in rest.calls[2:]] == [0.1, 0.1]


def test_other_votes_or_another_recipe_are_trained_anew(trainings: Trainings, tmp_path: Path) -> None:
    ablation.ablate(recipe(), WITH, VOTES, None, tmp_path / "out", seeds=1)
    heavier = VOTES.with_columns(pl.col("weight") + pl.int_range(pl.len()).cast(pl.Float64))
    ablation.ablate(recipe(), WITH, heavier, None, tmp_path / "out", seeds=1)
    assert [call[3] for call in trainings.calls] == [True, True, False, False]
    ablation.ablate(recipe(), WITH, heavier, None, tmp_path / "out", seeds=1)
    assert len(trainings.calls) == 4
    ablation.ablate(recipe(), WITH, heavier, None, tmp_path / "out", seeds=1, resume=False)
    assert [call[3] for call in trainings.calls[4:]] == [False, False]


@pytest.mark.parametrize("keep", [False, True])
def test_judges_are_let_go_unless_asked_for(keep: bool, trainings: Trainings, tmp_path: Path) -> None:
    ablation.ablate(recipe(), WITH, VOTES, None, tmp_path / "out", seeds=1, keep=keep)
    names = {path.name for path in (tmp_path / "out" / "without").iterdir()}
    assert names == {"seed-3.parquet", "seed-3.json"} | ({"seed-3", "seed-3.run"} if keep else set())


def test_folders_of_changes_are_plain_and_do_not_meet() -> None:
    names = ["without", "loss.focal=2", "a=1 b=2", "a=1-b=2", "x=" + "y" * 80, "base.name=/some/where"]
    found = ablation.folders(names)
    assert found["loss.focal=2"] == "loss.focal=2"
    assert len(set(found.values())) == len(names)
    assert all("/" not in folder and " " not in folder and len(folder) < 80 for folder in found.values())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (recipe(), "changes nothing"),
        (recipe(seed=4), "changes seed"),
        (recipe(folds=2), "changes folds"),
        (recipe(data={"limit": 10}), r"changes data\.limit.*--set data\.limit=VALUE"),
        (recipe(data={"support_weight": 0.5}), r"changes data\.support_weight"),
    ],
)
def test_changes_that_would_compare_other_rows_are_refused(changed: Recipe, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        ablation.ablate(recipe(), {"change": changed}, VOTES, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablate")
    document = finetune_rows.recipe(finetune_rows.base(folder), epochs=1).model_dump(mode="json")
    (folder / "mine.yaml").write_text(yaml.safe_dump(document))
    VOTES.write_parquet(folder / "votes.parquet")
    return folder


def ablate(files: Path, *arguments: str) -> int:
    return cli.run(["ablate", str(files / "mine.yaml"), *arguments, "--data", str(files / "votes.parquet")])


def test_a_dry_run_counts_trainings_and_steps(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(files, "loss.focal=2", "weighting.kind=learning_progress", "--each", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    names = ["without", "loss.focal=2", "weighting.kind=learning_progress"]
    assert [side["change"] for side in plan["sides"]] == names
    # 3 seeds x 3 folds; 40 rows and so 5 steps each.
    assert [side["trainings"] for side in plan["sides"]] == [9, 9, 9]
    assert (plan["trainings"], plan["steps"], plan["seconds"]) == (27, 135, None)
    assert ablate(files, "loss.focal=2", "--folds", "2", "--seeds", "1", "--dry-run", "--rate", "1000") == 0
    assert "4" in capsys.readouterr().out


def test_what_is_wrong_is_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(files, "loss.focal") == 2
    assert "change 'loss.focal'; expected KEY=VALUE" in capsys.readouterr().err
    assert ablate(files, "loss.focal=2") == 2
    assert "-o DIRECTORY, or --dry-run" in capsys.readouterr().err
    assert ablate(files, "loss.focal=0", "--dry-run") == 2
    assert "changes nothing" in capsys.readouterr().err
    assert ablate(files, "weighting.kind=margin", "-o", str(files / "out")) == 2
    assert "weighting.kind margin without teachers" in capsys.readouterr().err


def test_a_sentence_and_a_table(
    files: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert ablate(files, "loss.focal=2", "loss.smoothing=0.1", "--seeds", "2", "-o", str(out)) == 0
    said = capsys.readouterr().out
    assert "held-out log-loss of 60 rows in 30 groups, 3 folds, 2 seeds" in said
    assert "loss.focal=2 loss.smoothing=0.1: helps; log-loss -" in said
    assert ablate(files, "loss.focal=2", "loss.smoothing=0.1", "--seeds", "2", "-o", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out)["changes"][0]["verdict"] == "helps"
    assert len(trainings.calls) == 4


@pytest.mark.slow
def test_a_real_ablation_from_votes_to_a_verdict(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(files / "real")
    arguments = ("weighting.kind=learning_progress", "--seeds", "2", "--folds", "2", "--set", "epochs=2", "-o", out)
    assert ablate(files, *arguments, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["changes"][0]["differences"] != [0, 0]
    assert ablate(files, *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.slow
def test_the_slow_command_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "weighting.md"
    (line,) = page.read_text(encoding="utf-8").split("```console slow\n")[1].split("```")[0].splitlines()
    samples.votes().write_parquet(tmp_path / "votes.parquet")
    monkeypatch.chdir(tmp_path)
    assert cli.run(shlex.split(line)[2:]) == 0
    assert (tmp_path / "ablation" / ablation.REPORT).is_file()
