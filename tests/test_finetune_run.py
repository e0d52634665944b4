"""finetune(): what it leaves behind, what it refuses, what it finds wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import finetune_rows
import tiebreak
from tiebreak import bundle, comparisons, predictions, scoring
from tiebreak.errors import DataError, UsageError
from tiebreak.train.finetune import doctor
from tiebreak.train.finetune.folding import deal, groups, parts
from tiebreak.train.finetune.progress import Event, Figures, Finished, Said, Started, Stepped, Validated
from tiebreak.train.finetune.run import Outcome, finetune

VOTES = finetune_rows.votes(40)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune_rows.base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def learned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, list[Event], Path]:
    """One training that learns."""
    seen: list[Event] = []
    folder = tmp_path_factory.mktemp("learned")
    recipe = finetune_rows.recipe(base, epochs=6, lora__targets="all", optimiser__lr=1e-2)
    votes = finetune_rows.votes(150, noise=0.0)
    return finetune(recipe, votes, None, folder / "judge", report=seen.append), seen, folder


def test_it_learns_and_the_bundle_says_what_was_measured(learned: tuple[Outcome, list[Event], Path]) -> None:
    outcome, seen, _ = learned
    found = outcome.metrics["validation"]
    assert found["log_loss"] < found["prior_log_loss"] - 0.05
    assert outcome.validation is not None
    assert outcome.held_out is not None
    assert outcome.validation["id"].equals(outcome.held_out["id"])
    by_bundle = scoring.log_loss(
        predictions.probabilities(outcome.validation), comparisons.targets(outcome.held_out),
        outcome.held_out["weight"].to_numpy(),
    )  # fmt: skip
    # The bundle scores in the precision of the machine, training measured in fp32.
    assert by_bundle == pytest.approx(found["log_loss"], abs=0.02)
    best = [event for event in seen if isinstance(event, Validated) and event.best][-1]
    assert best.step == outcome.metrics["best_step"]
    assert best.figures.log_loss == found["log_loss"]
    assert isinstance(seen[0], Started | Said)
    assert isinstance(seen[-1], Finished)


def test_the_bundle_is_a_judge_that_mirrors(learned: tuple[Outcome, list[Event], Path]) -> None:
    outcome, _, folder = learned
    judge = tiebreak.load_judge(outcome.bundle)
    table = finetune_rows.votes(12, seed=5)
    given, swapped = judge.predict(table), judge.predict(comparisons.swap(table))
    assert given["p_a"].equals(swapped["p_b"].alias("p_a"))
    manifest = bundle.read(outcome.bundle)
    assert manifest.settings["recipe"]["seed"] == 3  # type: ignore[index]
    assert [source.name for source in manifest.training] == ["made"]
    assert "How good it is" in (outcome.bundle / "README.md").read_text()
    left = {path.name for path in (folder / "judge.run").iterdir()}
    assert left == {"run.json", "recipe.json", "done.json", "history.jsonl", "tensorboard", "validation.parquet"}


def test_the_same_call_again_trains_nothing(learned: tuple[Outcome, list[Event], Path], base: Path) -> None:
    outcome, _, folder = learned
    recipe = finetune_rows.recipe(base, epochs=6, lora__targets="all", optimiser__lr=1e-2)
    seen: list[Event] = []
    again = finetune(recipe, finetune_rows.votes(150, noise=0.0), None, folder / "judge", report=seen.append)
    assert not [event for event in seen if isinstance(event, Stepped)]
    assert again.metrics == outcome.metrics


def test_other_votes_or_another_recipe_are_refused(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, max_steps=1)
    finetune(recipe, VOTES, None, tmp_path / "judge")
    with pytest.raises(UsageError, match=r"a run with other recipe.*--anew"):
        finetune(finetune_rows.recipe(base, max_steps=2), VOTES, None, tmp_path / "judge")
    heavier = VOTES.with_columns(pl.col("weight") * 2)
    with pytest.raises(UsageError, match=r"a run with other data.*--anew"):
        finetune(recipe, heavier, None, tmp_path / "judge")
    assert finetune(recipe, heavier, None, tmp_path / "judge", resume=False).metrics["steps"] == 1


def test_what_is_no_bundle_is_not_overwritten(base: Path, tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="exists and is no judge bundle"):
        finetune(finetune_rows.recipe(base), VOTES, None, tmp_path / "judge")
    with pytest.raises(UsageError, match="mkdir -p"):
        finetune(finetune_rows.recipe(base), VOTES, None, tmp_path / "no" / "judge")


def test_qlora_on_four_bits_with_everything_on(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(
        base, quantize="nf4", precision="bf16", checkpointing=True, lora__targets="all", max_steps=2,
        optimiser__name="adamw_8bit",
    )  # fmt: skip
    outcome = finetune(recipe, VOTES, None, tmp_path / "judge")
    assert outcome.validation is not None
    assert bundle.read(outcome.bundle).settings["quantize"] == "nf4"


def test_folds_leave_bundles_and_one_table_of_held_out_predictions(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, folds=3, max_steps=2)
    outcome = finetune(recipe, VOTES, None, tmp_path / "judges")
    assert {path.name for path in (tmp_path / "judges").iterdir()} == {
        "fold-0", "fold-1", "fold-2", "oof.parquet", "metrics.json",
    }  # fmt: skip
    oof = pl.read_parquet(tmp_path / "judges" / "oof.parquet")
    assert outcome.oof is not None
    assert oof.equals(outcome.oof)
    assert oof["id"].equals(VOTES["id"])
    assert oof["fold"].n_unique() == 3
    for number in range(3):
        rows = oof["fold"] == number
        judged = tiebreak.load_judge(tmp_path / "judges" / f"fold-{number}").predict(VOTES.filter(rows))
        assert np.array_equal(predictions.probabilities(judged), predictions.probabilities(oof.filter(rows)))
    by_group = VOTES.with_columns(fold=oof["fold"]).group_by("group").agg(pl.col("fold").n_unique())
    assert by_group["fold"].max() == 1
    assert json.loads((tmp_path / "judges" / "metrics.json").read_text())["metrics"]["oof"]["rows"] == 40


def test_the_column_fold_decides_and_rows_without_one_are_only_trained_on() -> None:
    recipe = finetune_rows.recipe(Path("x"), folds=2)
    fold = pl.Series("fold", [0, 1, None, 1] * 10, dtype=pl.Int64)
    todo, _ = parts(recipe, VOTES.with_columns(fold), None)
    assert [part.train.height for part in todo] == [30, 20]
    assert [part.validation.height for part in todo if part.validation is not None] == [10, 20]
    with pytest.raises(UsageError, match="folds=2"):
        parts(finetune_rows.recipe(Path("x"), folds=5), VOTES.with_columns(fold), None)


def test_a_share_of_the_groups_is_held_out_and_no_group_is_torn() -> None:
    votes = finetune_rows.votes(400)
    recipe = finetune_rows.recipe(Path("x"), data={"validation_share": 0.25})
    part = parts(recipe, votes, None)[0][0]
    assert part.validation is not None
    assert part.validation.height == pytest.approx(100, abs=4)
    assert not set(part.train["group"]) & set(part.validation["group"])
    shares = [table["label"].value_counts(normalize=True).sort("label")["proportion"] for table in (
        part.train, part.validation)]  # fmt: skip
    assert np.abs(shares[0].to_numpy() - shares[1].to_numpy()).max() < 0.03


def test_deals_do_not_depend_on_the_order_of_rows() -> None:
    shuffled = VOTES.sample(fraction=1, shuffle=True, seed=1)
    dealt = dict(zip(VOTES["id"], deal(VOTES, [0.5, 0.5], 0), strict=True))
    assert dealt == dict(zip(shuffled["id"], deal(shuffled, [0.5, 0.5], 0), strict=True))


def test_rows_without_a_group_go_by_their_prompt() -> None:
    bare = VOTES.with_columns(
        pl.lit(None, pl.String).alias("group"), pl.when(pl.int_range(pl.len()) < 4).then(pl.lit(["  Same Prompt"]))
        .otherwise("prompt").alias("prompt"),
    )  # fmt: skip
    assert groups(bare).head(4).n_unique() == 1
    assert groups(bare).n_unique() == 37


def test_validation_rows_that_were_trained_on_are_left_out_and_counted() -> None:
    recipe = finetune_rows.recipe(Path("x"))
    held = pl.concat([VOTES.head(3), finetune_rows.votes(90, seed=9).tail(40)])
    todo, notes = parts(recipe, VOTES, held)
    assert todo[0].validation is not None
    assert todo[0].validation.height == 40
    assert notes == ["3 validation rows share a prompt or a group with training rows and were left out"]
    with pytest.raises(DataError, match="every validation row"):
        parts(recipe, VOTES, VOTES)


def test_rows_without_a_label_are_left_out_and_counted() -> None:
    unknown = VOTES.with_columns(pl.when(pl.int_range(pl.len()) < 5).then(None).otherwise("label").alias("label"))
    todo, notes = parts(finetune_rows.recipe(Path("x"), data={"validation_share": 0}), unknown, None)
    assert todo[0].train.height == 35
    assert todo[0].validation is None
    assert notes == ["5 training rows have no label and were left out"]
    with pytest.raises(DataError, match="none of 40 training rows has a label"):
        parts(finetune_rows.recipe(Path("x")), VOTES.with_columns(pl.lit(None).alias("label")), None)


def test_fp16_needs_a_gpu_and_sharding_needs_full_fine_tuning(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision=bf16"):
        finetune(finetune_rows.recipe(base, precision="fp16"), VOTES, None, tmp_path / "judge")
    recipe = finetune_rows.recipe(base, strategy="fsdp", optimiser__name="adamw_8bit")
    with pytest.raises(UsageError, match=r"fsdp does not go with lora, optimiser\.name=adamw_8bit"):
        finetune(recipe, VOTES, None, tmp_path / "judge")


def figures(**changes: Any) -> Figures:
    sound: dict[str, Any] = {
        "log_loss": 1.0, "accuracy": 0.5, "macro_f1": 0.5, "confusion": [[5, 1, 1], [1, 5, 1], [1, 1, 5]],
        "prior_log_loss": 1.09, "spread": 0.1, "tie_share": 0.3, "swap_gap": 0.1, "rows": 21,
    }  # fmt: skip
    return Figures(**(sound | changes))


def curve(*losses: float) -> list[Validated]:
    return [Validated(step, len(losses), figures(log_loss=loss), False, 0.0) for step, loss in enumerate(losses, 1)]


def test_the_doctor_finds_nothing_in_a_sound_training() -> None:
    assert doctor.diagnose(curve(1.05, 1.0, 1.001), figures(), [1.1, 1.0, 0.9]) == []


@pytest.mark.parametrize(
    ("words", "kept", "losses", "validated"),
    [
        ("fold 2: no better than the prior", figures(log_loss=1.1), [1.0], (1.1,)),
        ("fold 2: the head outputs the prior", figures(spread=0.001), [1.0], (1.0,)),
        ("fold 2: a tie is never the verdict", figures(tie_share=0.0), [1.0], (1.0,)),
        ("fold 2: the validation log-loss rises: 1.0000 at step 2", figures(), [1.0], (1.1, 1.0, 1.2)),
        ("fold 2: the training loss diverged", figures(), [1.0] * 18 + [9.0, 9.0], (1.0,)),
    ],
)
def test_the_doctor_finds(words: str, kept: Figures, losses: list[float], validated: tuple[float, ...]) -> None:
    found = doctor.diagnose(curve(*validated), kept, losses, fold=2)
    assert [finding for finding in found if finding.startswith(words)]
    assert len(found) == 1
