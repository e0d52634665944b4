"""Teachers beside the rows: by id and text, whole, audited, told in the bundle; folds alone; pseudo-labelled rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import distil_rows
import finetune_rows
from tiebreak import bundle, comparisons, soft_labels
from tiebreak.errors import DataError, UsageError
from tiebreak.train.finetune import folding, read, teachers
from tiebreak.train.finetune.folding import Part
from tiebreak.train.finetune.plan import plan
from tiebreak.train.finetune.progress import Event, Stepped
from tiebreak.train.finetune.run import finetune
from tiebreak.train.finetune.working import Place

VOTES = finetune_rows.votes(40)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune_rows.base(tmp_path_factory.mktemp("base"), attention_dropout=0.1)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return distil_rows.write(tmp_path / "labels.parquet", VOTES, distil_rows.perfect(VOTES))


def beside(votes: pl.DataFrame, *named: str | Path) -> Part:
    place = Place(Part(None, votes, None), Path("judge"), Path("judge.run"), alone=True)
    return teachers.beside(place, teachers.read(named)).part


def test_labels_meet_their_rows_by_id_and_text_and_never_by_place(labels: Path, tmp_path: Path) -> None:
    shuffled = tmp_path / "shuffled.parquet"
    pl.read_parquet(labels).sample(fraction=1, shuffle=True, seed=1).write_parquet(shuffled)
    distil_rows.audited(shuffled)
    rows = VOTES.sample(25, shuffle=True, seed=2)
    part = beside(rows, labels)
    assert part.teachers is not None
    assert part.teachers.shape == (25, 1, 3)
    np.testing.assert_allclose(part.teachers[:, 0], distil_rows.perfect(rows))
    np.testing.assert_array_equal(beside(rows, shuffled).teachers, part.teachers)


def test_shards_are_one_teacher(labels: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(labels)
    for number, shard in enumerate((table[:13], table[13:])):
        shard.write_parquet(tmp_path / f"part.shard-{number + 1}-of-2.parquet")
        distil_rows.audited(tmp_path / f"part.shard-{number + 1}-of-2.parquet")
    pattern = str(tmp_path / "part.shard-*-of-2.parquet")
    np.testing.assert_array_equal(beside(VOTES, pattern).teachers, beside(VOTES, labels).teachers)
    with pytest.raises(DataError, match="27 of 40 comparisons have no label"):
        beside(VOTES, tmp_path / "part.shard-1-of-2.parquet")
    assert len(teachers.read([labels, pattern])) == 2


def test_labels_that_cannot_be_trusted_are_refused(labels: Path, tmp_path: Path) -> None:
    other = VOTES.with_columns(response_a=pl.concat_list(pl.lit("another text")))
    with pytest.raises(DataError, match="texts of 40 comparisons are not those that were judged"):
        beside(comparisons.validate(other), labels)
    swapped = VOTES.rename({"response_a": "response_b", "response_b": "response_a"})
    with pytest.raises(DataError, match="not those that were judged"):
        beside(comparisons.validate(swapped), labels)
    with pytest.raises(UsageError, match="there twice"):
        teachers.read([labels, str(labels)])
    with pytest.raises(DataError, match="no soft labels at"):
        teachers.read([tmp_path / "nothing-*.parquet"])
    distil_rows.audited(labels, passed=False)
    with pytest.raises(DataError, match="the audit refused teacher made: it is worse than the class shares"):
        teachers.read([labels])
    pl.read_parquet(labels).head(39).write_parquet(labels)
    with pytest.raises(DataError, match="not the file that was audited"):
        teachers.read([labels])
    soft_labels.audit_path(labels).unlink()
    with pytest.raises(DataError, match="was not audited"):
        teachers.read([labels])
    mixed = pl.read_parquet(labels).with_columns(
        teacher=pl.when(pl.col("id") == "3").then(pl.lit("b")).otherwise("teacher")
    )
    mixed.write_parquet(labels)
    with pytest.raises(DataError, match="labels of 2 teachers"):
        teachers.read([distil_rows.audited(labels)])


def test_the_bundle_says_who_taught_it_and_what_is_known_against_them(base: Path, tmp_path: Path) -> None:
    seen = {"in_sample": pl.Series([True] * 20 + [None] * 20, dtype=pl.Boolean)}
    first = distil_rows.write(tmp_path / "a.parquet", VOTES, distil_rows.perfect(VOTES), **seen)
    second = distil_rows.write(tmp_path / "b.parquet", VOTES, distil_rows.perfect(VOTES, sure=0.5), name="weak")
    distil_rows.audited(second, passed=False, forced=True)
    recipe = finetune_rows.recipe(base, max_steps=1, loss__preset="blackpearl", data__validation_share=0.0)
    outcome = finetune(recipe, VOTES, None, tmp_path / "judge", teachers=[first, second])
    manifest = bundle.read(tmp_path / "judge")
    oracle, weak = manifest.metrics["teachers"]  # type: ignore[misc]
    assert (oracle["name"], oracle["in_sample"], oracle["in_sample_unknown"]) == ("oracle", 0.5, 0.5)
    assert oracle["audit"] == {"passed": True, "forced": False, "faults": []}
    assert oracle["labels_sha256"] == [soft_labels.read_audit(first).labels_sha256]
    assert (weak["rows"], weak["audit"]["forced"], weak["in_sample"]) == (40, True, 0.0)
    card = (tmp_path / "judge" / "README.md").read_text()
    assert "| oracle | 40 | 50%, unknown of 50% | passed |" in card
    assert "refused, and overruled" in card
    assert "(cross-entropy + sum over 2 teachers of (KL + cosine)) / 5" in card
    said = " ".join(outcome.warnings)
    assert "teacher weak is used although its audit refused it" in said
    assert "teacher oracle: 50% of the training rows were in its own training data" in said
    assert manifest.settings["recipe"]["data"]["teachers"] == [str(first), str(second)]  # type: ignore[index,call-overload]


def killed_after(step: int, seen: list[Event]) -> Any:
    def report(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Stepped) and event.step == step:
            raise KeyboardInterrupt

    return report


@pytest.mark.slow
def test_killed_and_gone_on_with_gives_the_same_bytes(base: Path, labels: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, max_steps=5, loss__preset="conflict", evaluation__every=2)
    finetune(recipe, VOTES, None, tmp_path / "whole", teachers=[labels])
    seen: list[Event] = []
    for step in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            finetune(recipe, VOTES, None, tmp_path / "broken", teachers=[labels], report=killed_after(step, seen))
    finetune(recipe, VOTES, None, tmp_path / "broken", teachers=[labels])
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "broken" / path.name).read_bytes(), path.name
    # What teachers say is heard: another table is another run, and gives other weights.
    other = distil_rows.write(tmp_path / "other.parquet", VOTES, np.full((40, 3), 1 / 3))
    other.replace(labels)
    soft_labels.audit_path(other).replace(soft_labels.audit_path(labels))
    with pytest.raises(UsageError, match=r"belongs to a run with other teachers"):
        finetune(recipe, VOTES, None, tmp_path / "broken", teachers=[labels])
    finetune(recipe, VOTES, None, tmp_path / "uniform", teachers=[labels])
    name = "adapter_model.safetensors"
    assert (tmp_path / "uniform" / name).read_bytes() != (tmp_path / "whole" / name).read_bytes()


def test_a_fold_alone_is_that_fold_of_the_whole_run(base: Path, labels: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, max_steps=2, loss__preset="wsdm1", folds=2, evaluation__every=1)
    whole = finetune(recipe, VOTES, None, tmp_path / "all", teachers=[labels])
    alone = finetune(recipe, VOTES, None, tmp_path / "one", teachers=[labels], fold=1)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {path.name for path in (tmp_path / "all" / "fold-1").iterdir()}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "all" / "fold-1" / name).read_bytes(), name
    manifest = bundle.read(tmp_path / "one")
    assert (manifest.name, manifest.metrics["fold"]) == ("tiny-fold-1", 1)
    assert alone.oof is None
    assert alone.validation is not None
    assert whole.oof is not None
    theirs = whole.oof.filter(pl.col("fold") == 1).select("id", "p_a", "p_b", "p_tie")
    assert alone.validation.select("id", "p_a", "p_b", "p_tie").equals(theirs)
    # Nothing but teachers is new in what identifies a run: those begun before there were any go on.
    assert json.loads((tmp_path / "all.run" / "run.json").read_text()).keys() == {"data", "recipe", "teachers"}
    with pytest.raises(UsageError, match="belongs to a run with other"):
        finetune(recipe, VOTES, None, tmp_path / "one", teachers=[labels], fold=0)
    with pytest.raises(UsageError, match="no fold 2; expected one of 0, 1"):
        finetune(recipe, VOTES, None, tmp_path / "two", teachers=[labels], fold=2)
    with pytest.raises(UsageError, match="a recipe with folds"):
        finetune(finetune_rows.recipe(base), VOTES, None, tmp_path / "two", fold=0)


def test_a_loss_and_its_teachers_must_agree(base: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has terms for teachers, and there are none"):
        finetune(finetune_rows.recipe(base, loss__preset="hinton"), VOTES, None, tmp_path / "judge")
    with pytest.raises(UsageError, match="1 teachers with loss"):
        finetune(finetune_rows.recipe(base), VOTES, None, tmp_path / "judge", teachers=[labels])
    weighted = finetune_rows.recipe(base, weighting__kind="teacher_agreement", data__teachers=[str(labels)])
    assert teachers.settled(weighted) == weighted
    assert not (tmp_path / "judge.run").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("loss.preset=blackpeal", "expected 'cross_entropy', 'blackpearl', .* to mend: loss.preset=blackpearl"),
        ("loss.temprature=2", "unknown key 'loss.temprature'; to mend: write temperature"),
        ("loss.alpha=0.7", "loss.alpha 0.7 with preset cross_entropy; .* to mend: loss.preset=hinton"),
        ("loss={preset: hinton, kl: 2}", "loss.kl beside loss.preset hinton; .* to mend: loss.alpha"),
        ("loss.temperature=2", "loss.temperature 2 without KL"),
        ("loss.conflict=0.2", "loss.conflict 0.2 without teachers' terms"),
        ("loss.cross_entropy=0", "every term weighs 0"),
        ("loss={cross_entropy: 0, kl: 1, smoothing: 0.1}", "smoothing or focal without the cross-entropy"),
        ("data.teachers=[labels.parquet]", "1 teachers with loss.preset cross_entropy, which hears none"),
        ("start.head=false", "start.head false without start.bundle"),
        ("start.bundel=x", "unknown key 'start.bundel'; to mend: write bundle"),
    ],
)
def test_contradictions_of_a_recipe_are_told(override: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        read.read("smollm2-135m-lora", [override])
    assert re.search(told, str(error.value).replace("\n", " ")), str(error.value)


def test_recipes_with_teachers_are_read_back_equal() -> None:
    student = read.read("gemma2-9b-lora-blackpearl")
    assert student.loss.preset == "blackpearl"
    both = read.read("smollm2-135m-lora", ["self_distil=true", "loss.preset=hinton", "loss.alpha=0.7"])
    assert both.self_distil
    assert "alpha: 0.7" in read.dump(both)
    with pytest.raises(UsageError, match="self_distil beside the labels of teachers"):
        read.read("smollm2-135m-lora", ["self_distil=true", "data.teachers=[a.parquet]"])


def test_a_dry_run_says_how_far_the_labels_reach(base: Path, labels: Path) -> None:
    pl.read_parquet(labels).head(30).with_columns(in_sample=pl.col("id") == "0").write_parquet(labels)
    distil_rows.audited(labels)
    recipe = finetune_rows.recipe(base, loss__preset="hinton", data__teachers=[str(labels)], folds=2)
    found = plan(recipe, VOTES, fold=1)
    (reach,) = found.teachers
    assert (reach.teacher, reach.rows, reach.labelled, reach.in_sample, reach.forced) == ("oracle", 40, 30, 1, False)
    assert found.loss == "(0.5 cross-entropy + 0.5 2² KL) / 1, KL at temperature 2"
    assert found.work.trainings == 1
    waiting = plan(finetune_rows.recipe(base, loss__preset="wsdm1"))
    assert waiting.loss == "(0.5 cross-entropy + KL + cosine) / 2.5"
    assert any("none are named yet" in note for note in waiting.notes)
    own = plan(finetune_rows.recipe(base, self_distil=True))
    assert own.loss == "(cross-entropy + KL + cosine) / 3"
    assert any("3 folds on the votes alone" in note for note in own.notes)
    json.dumps(found.as_dict())


def test_pseudo_labelled_rows_are_trained_on_and_never_held_out(base: Path) -> None:
    pool = finetune_rows.votes(30, seed=5).with_columns(
        id=pl.format("pool-{}", "id"), label=pl.lit(None, dtype=VOTES["label"].dtype), p_a=0.5, p_b=0.3, p_tie=0.2,
        source=pl.lit("pseudo:oracle"), group=pl.format("pool {}", "group"),
    )  # fmt: skip
    # One pseudo-labelled row of a group of votes: it may not be trained on where the votes of its group are held out.
    pool = pool.with_columns(group=pl.when(pl.col("id") == "pool-0").then(pl.lit("g3")).otherwise("group"))
    mixed = comparisons.validate(pl.concat([VOTES, pool]))
    for changes in ({"folds": 3}, {"data__validation_share": 0.3}):
        recipe = finetune_rows.recipe(base, **changes)
        plain, _ = folding.parts(recipe, VOTES, None)
        made, _ = folding.parts(recipe, mixed, None)
        for one, other in zip(plain, made, strict=True):
            assert one.validation is not None
            assert other.validation is not None
            assert one.validation["id"].to_list() == other.validation["id"].to_list()
            beside = 29 if "g3" in one.validation["group"] else 30
            assert other.train.height == one.train.height + beside
    held = comparisons.validate(pool.with_columns(group=pl.format("other {}", "group")))
    votes = finetune_rows.votes(10, seed=9).with_columns(
        group=pl.format("new {}", "group"), prompt=pl.concat_list(pl.format("new {}", "id"))
    )
    (part,), _ = folding.parts(recipe, VOTES, comparisons.validate(pl.concat([votes, held])))
    assert part.validation is not None
    assert part.validation.height == 10
