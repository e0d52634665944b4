"""combine merge: the weights are base plus adapter, the head keeps its bytes, and what moved is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import combine_made as made
import tiny
from tiebreak import bundle, judges, predictions, row_hashes
from tiebreak.calibration import Calibration
from tiebreak.cli import run
from tiebreak.combine import merge as merging
from tiebreak.errors import DataError, GateError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Base, Head
from tiebreak.judges.base.loading import load

FP32 = Runtime(precision="fp32", devices="cpu")
ROWS = made.VOTES.head(8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in bf16, as most are."""
    return tiny.save(tmp_path_factory.mktemp("base") / "llama", "llama", num_hidden_layers=2, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def judge(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    calibration = Calibration(method="temperature", weight=((2, 0, 0), (0, 2, 0), (0, 0, 2)), bias=(0, 0, 0))
    return made.fold(folder, base, 0, calibration=calibration)


@pytest.fixture(scope="module")
def merged(judge: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[merging.Merged, Path]:
    done = merging.merge(judge, ROWS, runtime=FP32, limit=1.0)
    target = tmp_path_factory.mktemp("merged") / "judge"
    done.judge.save(target)
    return done, target


def said(path: Path) -> np.ndarray:
    return predictions.probabilities(judges.load(path, FP32).predict(ROWS))


def test_each_weight_is_the_sum_in_fp32_rounded_once(
    base: Path, judge: Path, merged: tuple[merging.Merged, Path]
) -> None:
    found, exact = made.stored(merged[1]), made.by_peft(base, judge)
    adapted = 0
    for name, tensor in found.items():
        if name == "score.weight":
            continue
        assert tensor.dtype == torch.bfloat16
        assert tensor.equal(exact[name].float().to(torch.bfloat16)), name
        adapted += not tensor.equal(made.stored(base)[name])
    assert adapted == 4, "two modules in each of two layers"
    assert json.loads((merged[1] / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("family", "kind", "head"),
    [("llama", "classifier", Head()), ("llama", "classifier", Head(kind="two_layer")),
     ("bert", "classifier", Head()), ("bert", "siamese", Head(kind="two_layer")), ("deberta-v2", "classifier", Head())],
)  # fmt: skip
def test_trained_heads_survive_byte_for_byte(tmp_path: Path, family: str, kind: Any, head: Head) -> None:
    """Poolers and dense layers before the logits are part of the head; BERT's pooler lies inside its backbone."""
    base = tiny.save(tmp_path / "base", family, num_hidden_layers=1, dtype=torch.bfloat16)
    judge = made.fold(tmp_path, base, 0, kind=kind, family=family, head=head)
    done = merging.merge(judge, ROWS, runtime=Runtime(devices="cpu"), limit=1.0)
    done.judge.save(tmp_path / "merged")
    before, after = made.stored(judge), made.stored(tmp_path / "merged")
    kept = [name for name in before if ".lora_" not in name]
    assert kept
    for name in kept:
        one, other = before[name], after[name.removeprefix("base_model.model.")]
        assert one.dtype == other.dtype
        assert one.view(torch.uint8).equal(other.view(torch.uint8)), name
    assert any(before[name].dtype == torch.float32 for name in kept)
    assert judges.load(tmp_path / "merged", FP32).predict(ROWS)["p_a"].n_unique() > 4


def test_the_parity_figure_is_what_two_predictions_differ_by(judge: Path, merged: tuple[merging.Merged, Path]) -> None:
    done, target = merged
    moved = np.abs(said(target) - said(judge)).max(axis=1)
    found = done.parity["bf16"]
    assert found.largest == pytest.approx(moved.max())
    assert found.mean == pytest.approx(moved.mean())
    assert found.at == ROWS["id"][int(moved.argmax())]
    assert found.verdict_changes == (predictions.verdicts(said(target)) != predictions.verdicts(said(judge))).sum()
    assert found.size == sum(path.stat().st_size for path in target.glob("*.safetensors"))
    assert 0 < found.largest < 0.05
    assert list(done.parity) == ["bf16", "fp32"]
    assert done.parity["fp32"].largest < 1e-6
    assert done.parity["fp32"].size > 1.5 * found.size


def test_the_bundle_says_what_it_was_and_keeps_what_it_knew(judge: Path, merged: tuple[merging.Merged, Path]) -> None:
    before, after = bundle.read(judge), bundle.read(merged[1])
    assert (after.settings["base"], after.settings["adapter"]) == (None, False)
    assert after.calibration == before.calibration
    assert after.training == before.training
    assert after.metrics["teachers"] == before.metrics["teachers"]
    assert row_hashes.read_trained(merged[1]) == row_hashes.read_trained(judge)
    document: Any = after.metrics["merge"]
    assert (document["dtype"], document["forced"], document["dequantised"]) == ("bf16", False, None)
    assert document["parity"]["bf16"]["rows"] == 8
    assert "largest change of a probability" in (merged[1] / "README.md").read_text()


def test_fp32_weights_say_the_same(judge: Path, tmp_path: Path) -> None:
    done = merging.merge(judge, ROWS, dtype="fp32", runtime=FP32)
    done.judge.save(tmp_path / "judge")
    np.testing.assert_allclose(said(tmp_path / "judge"), said(judge), atol=1e-6)
    assert list(done.parity) == ["fp32"]


def test_a_base_in_4_bits_is_dequantised_and_not_rounded_again(base: Path, tmp_path: Path) -> None:
    """The merged weights are those 4 bits, read out, plus the adapter; peft's own merge rounds the sum to 4 bits."""
    judge = made.fold(tmp_path, base, 0, quantize="nf4")
    done = merging.merge(judge, ROWS, dtype="fp32", runtime=FP32, limit=1.0)
    done.judge.save(tmp_path / "merged")
    from bitsandbytes import functional
    from bitsandbytes.nn.modules import Linear4bit

    model, _ = load(Base(name=str(base)), None, dtype=torch.float32, quantize="nf4")
    found, own = made.stored(tmp_path / "merged"), made.stored(judge)
    quantised = [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    assert len(quantised) == 14
    rounded = 0
    for name, module in quantised:
        want = functional.dequantize_4bit(module.weight.data, module.weight.quant_state).double()
        rounded += not torch.allclose(want, made.stored(base)[f"{name}.weight"].double())
        if f"base_model.model.{name}.lora_A.weight" in own:
            a, b = (own[f"base_model.model.{name}.lora_{side}.weight"].double() for side in "AB")
            want = want + 2.0 * b @ a
        torch.testing.assert_close(found[f"{name}.weight"].double(), want, atol=1e-6, rtol=0)
    assert rounded == 14
    assert "4 bits (nf4) and was dequantised" in done.notes[0]
    manifest = bundle.read(tmp_path / "merged")
    assert manifest.settings["quantize"] is None
    assert manifest.metrics["merge"]["dequantised"] == "nf4"  # type: ignore[index,call-overload]
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    assert done.parity["fp32"].largest < 0.02, "bitsandbytes itself computes in bf16 on some CPUs"


def test_a_base_on_another_place_is_merged_and_another_base_is_refused(base: Path, judge: Path, tmp_path: Path) -> None:
    moved = tiny.save(tmp_path / "moved", "llama", num_hidden_layers=2, dtype=torch.bfloat16)
    done = merging.merge(judge, ROWS, runtime=Runtime(precision="fp32", devices="cpu", base=str(moved)), limit=1.0)
    assert done.parity["fp32"].largest < 1e-6
    wrong = tiny.save(tmp_path / "wrong", "llama", num_hidden_layers=2, seed=4, dtype=torch.bfloat16)
    with pytest.raises(DataError, match="other weights than the judge was made on"):
        merging.merge(judge, ROWS, runtime=Runtime(precision="fp32", devices="cpu", base=str(wrong)))


def test_a_merge_that_moves_too_much_is_refused(judge: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"moves by .* --dtype fp32"):
        merging.merge(judge, ROWS, runtime=FP32, limit=1e-5)
    done = merging.merge(judge, ROWS, runtime=FP32, limit=1e-5, force=True)
    assert done.judge.manifest.metrics["merge"]["forced"] is True  # type: ignore[index,call-overload]


def test_a_judge_without_an_adapter_is_refused(merged: tuple[merging.Merged, Path]) -> None:
    with pytest.raises(UsageError, match="has no adapter"):
        merging.merge(merged[1], ROWS)


def test_the_command(judge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ROWS.write_parquet(tmp_path / "rows.parquet")
    common = ["combine", "merge", str(judge), "-o", str(tmp_path / "merged"), "--validation"]
    common += [str(tmp_path / "rows.parquet"), "--max-change"]
    assert run([*common, "1e-6"]) == 6
    assert not (tmp_path / "merged").exists()
    assert "to mend: --dtype fp32" in capsys.readouterr().err
    assert run([*common, "1e-6", "--force", "--json"]) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)["parity"]) == ["bf16", "fp32"]
    assert "wrote" in err
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert not list(tmp_path.glob("tiebreak-*")), "no temporary folder is left behind"
