"""combine adapters on networks: what peft reads back, what was measured, what the bundle says, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import combine_made as made
import finetune_rows
import tiny
from tiebreak import bundle, comparisons, judges, pooling, predictions, row_hashes, scoring
from tiebreak.calibration import Calibration
from tiebreak.cli import run
from tiebreak.combine import adapters, alike, measuring, planning, shares
from tiebreak.combine.adapters import MEAN, PRIOR
from tiebreak.combine.candidates import candidates
from tiebreak.errors import DataError, GateError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Head
from tiebreak.judges.finetuned import FinetunedJudge

FP32 = Runtime(precision="fp32", devices="cpu")
HELD = made.VOTES.tail(10)
WEIGHTS = [0.5, 0.3, 0.2]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("base") / "llama", "llama", num_hidden_layers=2)


@pytest.fixture(scope="module")
def folds(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three folds: the second is no better than its prior."""
    folder = tmp_path_factory.mktemp("folds")
    figures = [(0.9, 1.09), (1.2, 1.09), (1.0, 1.09)]
    return [made.fold(folder, base, number, figures=figures[number]) for number in range(3)]


@pytest.fixture(scope="module")
def averaged(folds: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[adapters.Averaged, Path]:
    """All three by weights of their own, kept as `exact`."""
    plan = planning.plan(folds, HELD, method="exact", weights="5,3,2", runtime=FP32)
    done = adapters.average(plan)
    target = tmp_path_factory.mktemp("averaged") / "student"
    done.judge.save(target)
    return done, target


def average(folds: list[Path], target: Path, method: str, **details: Any) -> Path:
    """The bundle of one way of averaging; nothing is scored."""
    plan = planning.plan(folds, HELD, method=method, runtime=FP32, **details)
    chosen = next(one for one in candidates(plan.members, plan.weights, plan.choices) if one.method in method)
    assert chosen.judge is not None
    chosen.judge.save(target)
    return target


def test_peft_reads_the_exact_mean_back(
    base: Path, folds: list[Path], averaged: tuple[adapters.Averaged, Path]
) -> None:
    """PeftModel.from_pretrained and merge_and_unload on what was written, against each judge merged by peft."""
    whole = made.mean([made.by_peft(base, fold) for fold in folds], WEIGHTS)
    made.close(made.by_peft(base, averaged[1]), whole, 1e-6)


def test_peft_reads_tensors_and_svd_back(base: Path, folds: list[Path], tmp_path: Path) -> None:
    whole = made.mean([made.by_peft(base, fold) for fold in folds[:2]], [0.5, 0.5])
    full = average(folds[:2], tmp_path / "svd", "svd:8")
    made.close(made.by_peft(base, full), whole, 1e-6)
    assert json.loads((full / "adapter_config.json").read_text())["r"] == 8
    apart = average(folds[:2], tmp_path / "tensors", "tensors")
    files = [made.stored(fold) for fold in (*folds[:2], apart)]
    for name, tensor in files[2].items():
        torch.testing.assert_close(tensor, (files[0][name] + files[1][name]) / 2)
    by_hand = {name: tensor.clone() for name, tensor in made.by_peft(base, folds[0]).items()}
    clean = {name: tensor.double() for name, tensor in made.stored(base).items()}
    for key in [name for name in files[2] if name.endswith("lora_A.weight")]:
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        b = files[2][key.replace("lora_A", "lora_B")].double()
        by_hand[f"{module}.weight"] = clean[f"{module}.weight"] + 2.0 * b @ files[2][key].double()
    by_hand["score.weight"] = files[2]["base_model.model.score.weight"].double()
    made.close(made.by_peft(base, apart), by_hand, 1e-6)


def test_ranks_scales_and_rank_stabilisation_may_differ(base: Path, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"r": 2, "lora_alpha": 8}, {"r": 4, "lora_alpha": 6, "use_rslora": True},
        {"r": 3, "rank_pattern": {"v_proj": 5}, "alpha_pattern": {"v_proj": 7}},
    ]  # fmt: skip
    folds = [made.fold(tmp_path, base, k, changes=change) for k, change in enumerate(changes)]
    whole = made.mean([made.by_peft(base, fold) for fold in folds], [1 / 3] * 3)
    made.close(made.by_peft(base, average(folds, tmp_path / "student", "exact")), whole, 1e-6)
    document = json.loads((tmp_path / "student" / "adapter_config.json").read_text())
    assert {document["r"], *document["rank_pattern"].values()} == {9, 11}
    with pytest.raises(DataError, match="ranks 2, 4, 3: factors of different ranks"):
        adapters.average(planning.plan(folds, HELD, method="tensors", runtime=FP32))


@pytest.mark.parametrize(
    ("kind", "family", "head"),
    [("siamese", "bert", Head(kind="two_layer")), ("classifier", "deberta-v2", Head()),
     ("classifier", "bert", Head(kind="two_layer"))],
)  # fmt: skip
def test_heads_of_every_kind_are_averaged(tmp_path: Path, kind: Any, family: str, head: Head) -> None:
    base = tiny.save(tmp_path / "base", family, num_hidden_layers=1)
    folds = [made.fold(tmp_path, base, k, kind=kind, family=family, head=head) for k in range(2)]
    whole = made.mean([made.by_peft(base, fold, kind, head) for fold in folds], [0.5, 0.5])
    for method in ("exact", "merged"):
        target = average(folds, tmp_path / method, method)
        judge = judges.load(target, FP32)
        assert isinstance(judge, FinetunedJudge)
        assert judge.kind == kind
        found = judge.network.model.state_dict()
        made.close(found, whole, 2e-6)
        parts = [made.stored(fold) for fold in folds]
        for name, tensor in parts[0].items():
            if ".lora_" not in name:
                want = (tensor + parts[1][name]) / 2
                assert made.stored(target)[name if method == "exact" else name.removeprefix("base_model.model.")].equal(
                    want
                )


def test_merged_is_the_mean_of_whole_weights(base: Path, folds: list[Path], tmp_path: Path) -> None:
    target = average(folds, tmp_path / "student", "merged")
    whole = made.mean([made.by_peft(base, fold) for fold in folds], [1 / 3] * 3)
    made.close(made.stored(target), whole, 1e-6)
    manifest = bundle.read(target)
    assert (manifest.settings["base"], manifest.settings["adapter"]) == (None, False)
    assert not (target / "adapter_config.json").exists()
    judges.load(target, FP32).predict(HELD)


def test_whole_weights_are_averaged_tensor_by_tensor(base: Path, tmp_path: Path) -> None:
    folds = [made.fold(tmp_path, base, k, adapted=False) for k in range(2)]
    done = adapters.average(planning.plan(folds, HELD, weights="3,1", runtime=FP32))
    target = tmp_path / "student"
    done.judge.save(target)
    assert list(done.figures) == [MEAN, "fold-0", "fold-1", PRIOR, "merged"]
    parts = [made.stored(fold) for fold in folds]
    made.close(made.stored(target), made.mean(parts, [0.75, 0.25]), 1e-7)
    with pytest.raises(UsageError, match="hold whole weights and no adapters"):
        planning.plan(folds, HELD, method="exact")


def test_every_figure_is_what_scoring_says(folds: list[Path], averaged: tuple[adapters.Averaged, Path]) -> None:
    done, target = averaged
    said = np.stack([predictions.probabilities(judges.load(fold, FP32).predict(HELD)) for fold in folds])
    mean = pooling.linear(said, np.array(WEIGHTS))
    own = predictions.probabilities(judges.load(target, FP32).predict(HELD))
    targets, weights = comparisons.targets(HELD), HELD["weight"].to_numpy()
    losses = {name: scoring.log_loss(p, targets, weights) for name, p in ((MEAN, mean), ("exact", own))}
    assert list(done.figures) == [MEAN, "fold-0", "fold-1", "fold-2", PRIOR, "tensors", "exact", "svd:4", "merged"]
    for name, value in losses.items():
        assert done.figures[name].log_loss.value == pytest.approx(value)
    exact = done.figures["exact"]
    assert exact.change.value == pytest.approx(losses["exact"] - losses[MEAN])
    assert exact.change.low <= exact.change.value <= exact.change.high
    assert exact.verdict_changes == (predictions.verdicts(own) != predictions.verdicts(mean)).sum()
    assert exact.size == (target / "adapter_model.safetensors").stat().st_size
    assert done.figures["merged"].log_loss.value == pytest.approx(exact.log_loss.value, abs=1e-6)
    assert done.figures["svd:4"].svd_error is not None
    assert done.figures["tensors"].interference is not None
    assert done.figures[MEAN].change.value == 0
    assert 0 < exact.swap_gap < 1  # type: ignore[operator]


def test_the_bundle_carries_what_its_parts_were(folds: list[Path], averaged: tuple[adapters.Averaged, Path]) -> None:
    done, target = averaged
    manifest = bundle.read(target)
    assert manifest.name == "tiny"
    assert [source.fingerprint for source in manifest.training] == ["print 0", "the same", "print 1", "print 2"]
    seen = row_hashes.read_trained(target)
    assert seen == frozenset(row_hashes.unordered(made.VOTES.head(30)))
    assert manifest.metrics["teachers"] == [
        {"name": "ten", "fold": 0}, {"name": "all"}, {"name": "ten", "fold": 1}, {"name": "ten", "fold": 2},
    ]  # fmt: skip
    document: Any = manifest.metrics["averaging"]
    assert document == json.loads(json.dumps(done.document))
    assert [part["weight"] for part in document["parts"]] == pytest.approx(WEIGHTS)
    assert document["rows"] == 10
    assert len(document["modules"]["svd:4"]) == 4
    assert "| exact |" in (target / "README.md").read_text()
    assert manifest.settings["recipe"] is None


def test_rows_that_a_judge_was_trained_on_are_left_out(folds: list[Path]) -> None:
    plan = planning.plan(folds[:2], made.VOTES)
    assert plan.votes.rows == 20
    assert plan.seen == 20
    assert any("20 of 40 validation rows left out" in note for note in plan.notes)
    swapped = planning.plan(folds[:2], comparisons.swap(made.VOTES))
    assert swapped.votes.rows == 20, "the twin of a row that was trained on has been seen too"
    with pytest.raises(DataError, match="every one of the 20 validation rows was trained on"):
        planning.plan(folds[:2], made.VOTES.head(20))


def test_a_judge_that_does_not_say_what_it_saw_is_named(base: Path, folds: list[Path], tmp_path: Path) -> None:
    silent = made.fold(tmp_path, base, 7, seen=False)
    plan = planning.plan([folds[0], silent], HELD, runtime=FP32)
    assert any("fold-7: the bundle does not say" in note for note in plan.notes)
    assert any("cannot say which rows it was trained on" in note for note in plan.notes)
    target = average([folds[0], silent], tmp_path / "student", "exact")
    assert row_hashes.read_trained(target) is None


def test_calibrations_belong_to_the_parts(base: Path, folds: list[Path], tmp_path: Path) -> None:
    """They are left aside for the comparison and for the new judge, and the user is told."""
    calibration = Calibration(method="temperature", weight=((3, 0, 0), (0, 3, 0), (0, 0, 3)), bias=(0, 0, 0))
    sure = made.fold(tmp_path, base, 0, calibration=calibration)
    plan = planning.plan([sure, folds[1]], HELD, runtime=FP32)
    assert any("calibrations of fold-0" in note for note in plan.notes)
    done = adapters.average(plan)
    bare = adapters.average(planning.plan([folds[0], folds[1]], HELD, runtime=FP32))
    assert done.figures == bare.figures
    assert done.judge.manifest.calibration is None


@pytest.mark.parametrize(
    ("details", "said"),
    [({"max_length": 150}, "template: plain at 200 tokens and plain at 150"), ({"adapted": False}, "kind of weights"),
     ({"head": Head(kind="two_layer")}, "head: linear and two_layer"), ({"quantize": "nf4"}, "bits of the base"),
     ({"changes": {"target_modules": ["q_proj"]}}, "adapter: model.layers.0.self_attn.v_proj"),
     ({"kind": "siamese"}, "kind of judge: classifier and siamese")],
)  # fmt: skip
def test_judges_that_do_not_belong_together_are_refused(
    base: Path, folds: list[Path], tmp_path: Path, details: dict[str, Any], said: str
) -> None:
    other = made.fold(tmp_path, base, 5, **details)
    with pytest.raises(DataError, match=said):
        adapters.average(planning.plan([folds[0], other], HELD, runtime=FP32))


def test_judges_of_another_base_are_refused(folds: list[Path], tmp_path: Path) -> None:
    other = made.fold(tmp_path, tiny.save(tmp_path / "llama", "llama", seed=5, num_hidden_layers=2), 5)
    with pytest.raises(DataError, match="base \\(sha256 of its weights\\)"):
        planning.plan([folds[0], other], HELD)


def test_what_cannot_be_averaged_at_all(folds: list[Path]) -> None:
    with pytest.raises(UsageError, match="has no network"):
        planning.plan([folds[0], judges.EMBEDDED], HELD)
    with pytest.raises(UsageError, match="named twice"):
        planning.plan([folds[0], folds[1], folds[0]], HELD)
    with pytest.raises(UsageError, match="1 judge to average"):
        planning.plan(folds[:1], HELD)
    for method in ("svd:0", "svd:", "mean"):
        with pytest.raises(UsageError, match="--method"):
            planning.plan(folds, HELD, method=method)
    with pytest.raises(DataError, match="none of 10 validation rows has a label"):
        planning.plan(folds, HELD.with_columns(label=None))


def test_weights_from_held_out_figures(folds: list[Path], base: Path, tmp_path: Path) -> None:
    """Gains of 0.19 and 0.09 over the prior; the second fold, worse than uniform, is dropped and said."""
    members = [alike.member(fold) for fold in folds]
    weights, notes = shares.shares("oof", members)
    assert weights == pytest.approx([0.19 / 0.28, 0, 0.09 / 0.28])
    assert len(notes) == 1
    assert "fold-1 is left out" in notes[0]
    plan = planning.plan(folds, HELD, weights="oof")
    assert [one.name for one in plan.members] == ["fold-0", "fold-2"]
    assert plan.weights.sum() == pytest.approx(1)
    unknown = made.fold(tmp_path, base, 0)
    with pytest.raises(DataError, match="no figures of votes held out"):
        shares.shares("oof", [members[0], alike.member(unknown)])
    with pytest.raises(GateError, match="knowing nothing"):
        shares.shares("oof", [members[1]])


def test_weights_that_are_given(folds: list[Path]) -> None:
    members = [alike.member(fold) for fold in folds]
    assert shares.shares("equal", members)[0] == pytest.approx([1 / 3] * 3)
    weights, notes = shares.shares("2,0,6", members)
    assert weights == pytest.approx([0.25, 0, 0.75])
    assert notes == ["fold-1 is left out: its weight is 0"]
    for wrong in ("1,2", "a,b,c", "1,-1,1", "0,0,0", "1,nan,1", "median"):
        with pytest.raises(UsageError, match="--weights"):
            shares.shares(wrong, members)


def test_the_best_is_the_smallest_that_is_not_clearly_beaten() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.001, size=500)
    exact, unsure = 1.0 + noise, 1.0005 + rng.normal(scale=0.01, size=500)
    unsure[0] = exact[0] + 0.0005
    draws = {"tensors": exact + 0.05, "exact": exact, "svd:4": unsure, "merged": exact}
    sizes = {"tensors": 10, "exact": 30, "svd:4": 10, "merged": 900}
    assert measuring.choose(draws, sizes) == "svd:4"
    draws["svd:4"] = draws["exact"] + 0.01
    assert measuring.choose(draws, sizes) == "exact", "smaller, but beaten on every resample"
    draws["tensors"] = draws["exact"] - 1e-9
    assert measuring.choose(draws, sizes) == "tensors"


def test_one_that_is_clearly_worse_than_the_mean_of_probabilities_is_told(
    averaged: tuple[adapters.Averaged, Path],
) -> None:
    own, likely = averaged[0].figures, scoring.Estimate(0.7, 0.6, 0.8)
    sure = replace(own["exact"], change=scoring.Estimate(0.2, 0.1, 0.3), log_loss=likely)
    assert "do not average well" in adapters.verdict("exact", own | {"exact": sure})[0]
    unsure = replace(sure, change=scoring.Estimate(0.2, -0.1, 0.3))
    assert adapters.verdict("exact", own | {"exact": unsure}) == []
    poor = replace(unsure, log_loss=scoring.Estimate(1.5, 1.4, 1.6))
    assert "no better than the prior" in adapters.verdict("exact", own | {"exact": poor})[0]


def test_judges_in_folders_of_one_name_are_told_apart() -> None:
    assert alike.names([Path("a/fold-0"), Path("b/fold-1")]) == ["fold-0", "fold-1"]
    assert alike.names([Path("a/x/judge"), Path("b/x/judge"), Path("b/y/judge")]) == [
        "a/x/judge", "b/x/judge", "b/y/judge",
    ]  # fmt: skip
    assert alike.names([Path("a/judge"), Path("a/judge")]) == ["judge", "judge"]


def test_labels_of_another_file(folds: list[Path]) -> None:
    bare, labels = HELD.drop("label"), HELD.select("id", "label").reverse()
    assert planning.relabelled(bare, labels)["label"].equals(HELD["label"])
    with pytest.raises(DataError, match="no validation row has its id"):
        planning.relabelled(bare, labels.with_columns(id=labels["id"] + "x"))
    with pytest.raises(DataError, match="more than once"):
        planning.relabelled(bare, labels.vstack(labels))


def test_the_command(folds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    HELD.write_parquet(tmp_path / "held.parquet")
    target, report = tmp_path / "student", tmp_path / "report.json"
    arguments = ["combine", "adapters", folds[0].parent, "--validation", tmp_path / "held.parquet", "-o", target,
                 "--method", "svd:6", "--weights", "oof", "--precision", "fp32", "--report", report]  # fmt: skip
    assert run([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert "svd:6 *" in out
    assert "mean of probabilities" in out
    assert "fold-1 is left out: no better than the prior" in err
    assert "wrote" in err
    document = json.loads(report.read_text())
    assert document["method"] == "svd:6"
    assert document == bundle.read(target).metrics["averaging"]
    each = ["--json", "--each", tmp_path / "each"]
    assert run([str(argument) for argument in [*arguments, *each]]) == 0
    assert {path.name for path in (tmp_path / "each").iterdir()} == {"tensors", "exact", "svd", "merged"}
    assert made.stored(tmp_path / "each" / "svd").keys() == made.stored(target).keys()
    printed = json.loads(capsys.readouterr().out)
    assert printed["averaging"] == document, "the same twice"


def test_the_command_looks_before_it_works(
    folds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    HELD.write_parquet(tmp_path / "held.parquet")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    common = ["combine", "adapters", *map(str, folds), "--validation", str(tmp_path / "held.parquet"), "-o"]
    for place, said in ((tmp_path / "full", "is no judge bundle"), (folds[1], "is one of the judges"),
                        (tmp_path / "no" / "place", "is not a directory")):  # fmt: skip
        assert run([*common, str(place)]) == 2
        assert said in capsys.readouterr().err
    assert run([*common, str(tmp_path / "x"), "--weights", "1,2"]) == 2
    assert run([*common, str(tmp_path / "x"), "--dtype", "int3"]) == 2
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"
    assert not list(tmp_path.glob("tiebreak-*")), "no temporary folder is left behind"


def test_a_base_inside_the_bundle_stays_there(base: Path, tmp_path: Path) -> None:
    folds = [made.fold(tmp_path, base, k, self_contained=True, seen=False) for k in range(2)]
    target = average(folds, tmp_path / "student", "exact")
    assert (target / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    whole = made.mean([made.by_peft(base, fold) for fold in folds], [0.5, 0.5])
    judge = judges.load(target, FP32)
    assert isinstance(judge, FinetunedJudge)
    made.close({name: tensor.double() for name, tensor in judge.network.model.state_dict().items()}, whole, 1e-6)
    made.close(made.stored(average(folds, tmp_path / "merged", "merged")), whole, 1e-6)


def test_rows_of_another_seed_are_unseen(folds: list[Path]) -> None:
    assert planning.plan(folds, finetune_rows.votes(10, seed=99)).seen == 0
