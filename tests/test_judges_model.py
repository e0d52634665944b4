"""The network of a judge: what is trained survives being saved, in every family: whole, as an adapter, in 4 bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

import tiny
from judges_made import lora, network, shaken
from tiebreak.engine import pack
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base, Head, heads
from tiebreak.judges.model import JudgeModel
from tiebreak.judges.siamese.head import PairHead

PAIRS = torch.tensor([[0, 1], [2, 3], [1, 2]])
BOTH = ("classifier", "siamese")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for family in tiny.FAMILIES:
        tiny.save(folder / family, family)
    return folder


def logits(model: JudgeModel, seed: int = 0) -> torch.Tensor:
    ids = np.random.default_rng(seed)
    with torch.inference_mode():
        return model(pack([ids.integers(6, 300, n) for n in (5, 33, 12, 20)]), PAIRS)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_an_adapter_and_its_head_survive(bases: Path, tmp_path: Path, family: str, kind: Any) -> None:
    """Merged or not: as transformers and peft apply it, the adapter gives the same logits."""
    head = Head(kind="two_layer")
    model = network(bases / family, family, kind, head, lora=lora(family))
    fresh = JudgeModel.build(Base(name=str(bases / family)), head, kind, lora=lora(family)).eval()
    model.files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    again = JudgeModel.restore(Base(name=str(bases / family)), head, kind, adapter=tmp_path)
    assert not isinstance(again.model, PeftModel), "merged"
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=1e-5)
    assert (logits(again) - logits(fresh)).abs().max() > 0.05, "the test would not see a head that is lost"


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_full_fine_tune_survives_bit_by_bit(bases: Path, tmp_path: Path, family: str, kind: Any) -> None:
    for head in (Head(), Head(kind="two_layer")):
        model = network(bases / family, family, kind, head)
        (folder := tmp_path / head.kind).mkdir()
        model.files(folder)
        again = JudgeModel.restore(Base(name=str(folder)), head, kind)
        assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2", "deberta-v2", "bert", "modernbert"])
def test_an_adapter_on_a_base_in_4_bits(bases: Path, tmp_path: Path, family: str) -> None:
    details: dict[str, Any] = {"quantize": "nf4", "dtype": torch.float32}
    head = Head(kind="two_layer")
    model = network(bases / family, family, "classifier", head, lora=lora(family), **details)
    four_bits = sum(type(module).__name__ == "Linear4bit" for module in model.modules())
    assert four_bits > 0
    in_head = [
        module for name in heads.parts(model.base_model) for module in model.base_model.get_submodule(name).modules()
    ]
    assert not [module for module in in_head if type(module).__name__ == "Linear4bit"]
    model.files(tmp_path)
    again = JudgeModel.restore(Base(name=str(bases / family)), head, "classifier", adapter=tmp_path, **details)
    assert isinstance(again.model, PeftModel), "merging would round the adapter to 4 bits"
    assert torch.equal(logits(again), logits(model))


def test_a_base_in_4_bits_is_not_trained_in_full(bases: Path) -> None:
    with pytest.raises(UsageError, match="cannot be trained in full"):
        JudgeModel.build(Base(name=str(bases / "llama")), Head(), "classifier", quantize="nf4")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_linear_head_is_that_of_transformers(bases: Path, family: str) -> None:
    """Against the padded forward of transformers itself, one sequence at a time."""
    model = JudgeModel.restore(Base(name=str(bases / family)), Head(), "classifier")
    reference = AutoModelForSequenceClassification.from_pretrained(bases / family, attn_implementation="eager").eval()
    ids = np.random.default_rng(3)
    rows = [ids.integers(6, 300, n) for n in (7, 40, 21)]
    with torch.inference_mode():
        ours = model(pack(rows))
        theirs = torch.cat([reference(torch.from_numpy(row)[None]).logits for row in rows])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert ours.dtype == torch.float32


def test_the_two_layer_head_is_the_one_described(bases: Path) -> None:
    """Dropout, h to h / 2, dropout, GELU, h / 2 to 3; its weights are called score.1 and score.4."""
    model = network(bases / "llama", "llama", head=Head(kind="two_layer", dropout=0.1))
    weights = model.base_model.score.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        "1.weight": (32, 64), "1.bias": (32,), "4.weight": (3, 32), "4.bias": (3,),
    }  # fmt: skip
    packed = pack([np.arange(6, 30)])
    with torch.inference_mode():
        state = model.pooled.embed(packed)
        hidden = functional.gelu(state @ weights["1.weight"].T + weights["1.bias"])
        torch.testing.assert_close(model(packed), hidden @ weights["4.weight"].T + weights["4.bias"])


def test_the_head_is_fp32_on_a_base_in_bf16(bases: Path, tmp_path: Path) -> None:
    for family in ("llama", "bert", "deberta-v2"):
        model = network(bases / family, family, head=Head(), lora=lora(family), dtype=torch.bfloat16)
        (folder := tmp_path / family).mkdir()
        model.files(folder)
        stored = load_file(folder / "adapter_model.safetensors")
        head = {name: tensor for name, tensor in stored.items() if "score" in name or "classifier" in name}
        assert head
        assert {tensor.dtype for tensor in head.values()} == {torch.float32}
        again = JudgeModel.restore(
            Base(name=str(bases / family)), Head(), "classifier", adapter=folder, dtype=torch.bfloat16
        )
        layer = again.base_model.get_submodule(heads.last(again.base_model))
        assert any(torch.equal(layer.weight, tensor) for tensor in head.values())
        assert logits(again).dtype == torch.float32


def test_the_trainable_state_goes_out_and_back(bases: Path) -> None:
    one = network(bases / "llama", "llama", lora=lora("llama"))
    other = shaken(JudgeModel.build(Base(name=str(bases / "llama")), Head(), "classifier", lora=lora("llama")), seed=2)
    state = {name: tensor.clone() for name, tensor in one.trainable_state().items()}
    assert all("lora" in name or "score" in name for name in state)
    assert not torch.equal(logits(one), logits(other))
    other.load_trainable(state)
    assert torch.equal(logits(one), logits(other))
    with pytest.raises(DataError, match="1 weights do not belong"):
        other.load_trainable(dict(list(state.items())[1:]))
    name = next(iter(state))
    with pytest.raises(DataError, match="do not belong"):
        other.load_trainable(state | {name: state[name][:1]})


def test_parameters_are_counted_once(bases: Path) -> None:
    model = JudgeModel.build(Base(name=str(bases / "llama")), Head(), "classifier")
    reference = AutoModelForSequenceClassification.from_pretrained(bases / "llama")
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in reference.parameters())
    assert len(model.trainable_state()) == len(list(reference.parameters()))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_trained_weight_of_a_siamese_model_has_a_gradient(bases: Path, family: str) -> None:
    model = network(bases / family, family, "siamese", Head(kind="two_layer"), lora=lora(family))
    out = model(pack([np.arange(6, 20), np.arange(40, 90)]), torch.tensor([[0, 1]]))
    functional.cross_entropy(out, torch.tensor([2])).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_siamese_model_needs_pairs(bases: Path) -> None:
    model = JudgeModel.build(Base(name=str(bases / "bert")), Head(), "siamese")
    assert model.pooled.pooling == "mean"
    with pytest.raises(UsageError, match="needs pairs"):
        model(pack([np.arange(6, 20)]))


@pytest.mark.parametrize("width", [None, 8])
def test_the_pair_head_is_antisymmetric_and_its_tie_symmetric_bit_by_bit(width: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    head = PairHead(16, width).eval()
    for scale in (1e-3, 1.0, 50.0):
        a, b = (torch.randn(37, 16, generator=generator) * scale for _ in range(2))
        with torch.inference_mode():
            given, swapped = head(a, b), head(b, a)
        assert torch.equal(given, swapped[:, [1, 0, 2]])
        torch.testing.assert_close(
            given[:, 0] - given[:, 1], head.scores(head.project(a)) - head.scores(head.project(b))
        )
    same = head(a, a)
    assert torch.equal(same[:, 0], same[:, 1])


def test_an_adapter_of_another_model_is_refused(bases: Path, tmp_path: Path) -> None:
    network(bases / "llama", "llama", lora=lora("llama")).files(tmp_path)
    wide = tiny.save(tmp_path / "wide", "llama", hidden_size=32, intermediate_size=64)
    with pytest.raises(DataError, match="does not fit its base"):
        JudgeModel.restore(Base(name=str(wide)), Head(), "classifier", adapter=tmp_path)


def test_a_checkpoint_without_a_trained_head_is_no_judge(bases: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="weights of the head are not in the checkpoint"):
        JudgeModel.restore(Base(name=str(bases / "llama")), Head(kind="two_layer"), "classifier")


def test_the_same_adapter_gives_the_same_bytes(bases: Path, tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        network(bases / "llama", "llama", lora=lora("llama")).files(tmp_path / place, Base(name="base", revision="r"))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    document = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert document["target_modules"] == ["q_proj", "v_proj"]
    assert (document["base_model_name_or_path"], document["revision"]) == ("base", "r")
    assert document["task_type"] == "SEQ_CLS"
