"""S2's chain at toy size: an adapter of a language model is merged in fp32, and what comes of it has fewer bits.

`tests/test_s2_chain.py` goes the whole way with SmolLM2, llm-compressor and vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import finetune_rows
import generative_made as made
import judges_made
import tiny
from test_compress_run import Worker
from tiebreak import judges, predictions
from tiebreak.combine import alike, merge
from tiebreak.compress import environment, quantising
from tiebreak.compress.run import compress
from tiebreak.compress.task import Task
from tiebreak.environments import Environment
from tiebreak.errors import UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Base, Head
from tiebreak.judges.generative import GenerativeJudge
from tiebreak.judges.reward.wrapping import wrap
from tiebreak.render import template

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes", "ignore::FutureWarning:bitsandbytes")
FP32 = Runtime(precision="fp32", devices="cpu")
ROWS = finetune_rows.votes(12, seed=5)


def adapted(folder: Path, base: Path, *, quantize: Any = None, **changes: Any) -> GenerativeJudge:
    """A generative judge with an adapter that changes much."""
    if not base.exists():
        tiny.save_language_model(base, "llama", dtype=torch.bfloat16, **changes)
    model = judges_made.network(base, "llama", "generative", lora=judges_made.lora("llama"), quantize=quantize)
    return GenerativeJudge.make(
        name="tiny", model=model, tokenizer=tiny.tokenizer(), base=Base(name=str(base)), head=Head(),
        template=made.short(), quantize=quantize, verdicts=made.SINGLE, folder=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("s2")
    adapted(folder, folder / "base", tie_word_embeddings=True).save(folder / "judge")
    adapted(folder, folder / "base", quantize="nf4").save(folder / "in four bits")
    adapted(folder, folder / "untied", tie_word_embeddings=False).save(folder / "judge untied")
    return folder


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    stand_in = Worker()
    find: Callable[..., Environment] = lambda given, listener: Environment(Path("python"), {"llmcompressor": "0"})  # noqa: E731
    monkeypatch.setattr(environment, "find", find)
    monkeypatch.setattr(quantising, "run", stand_in)
    return stand_in


def said(path: Path, runtime: Runtime = FP32) -> np.ndarray:
    return predictions.probabilities(judges.load(path, runtime).predict(ROWS))


@pytest.mark.parametrize("name", ["judge", "in four bits", "judge untied"])
def test_a_merged_judge_is_a_language_model_that_says_the_same(here: Path, tmp_path: Path, name: str) -> None:
    done = merge.merge(here / name, ROWS, dtype="fp32", runtime=FP32)
    within = 0.02 if name == "in four bits" else 1e-5  # bitsandbytes itself computes in bf16 on some CPUs
    assert done.parity["fp32"].largest < within
    done.judge.save(tmp_path / "merged")
    before, after = said(here / name), said(tmp_path / "merged")
    np.testing.assert_allclose(after, before, atol=within)
    assert len(np.unique(before[:, 0].round(3))) > 6, "a judge that says the same of all is merged well too"
    document = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert document["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in document
    settings = judges.load(tmp_path / "merged").settings  # type: ignore[attr-defined]
    assert (settings.base, settings.adapter, settings.quantize) == (None, False, None)
    assert settings.verdicts == made.SINGLE
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tied = plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    assert tied == (name != "judge untied")


def test_each_merged_weight_is_the_sum_in_fp32_rounded_once(here: Path, tmp_path: Path) -> None:
    """Also the head over the vocabulary, which no adapter changes, keeps the bits of the base."""
    merge.merge(here / "judge untied", ROWS, runtime=FP32, limit=1.0).judge.save(tmp_path / "merged")
    adapter = load_file(here / "judge untied" / "adapter_model.safetensors")
    base, found = (load_file(folder / "model.safetensors") for folder in (here / "untied", tmp_path / "merged"))
    assert found.keys() == base.keys()
    changed = 0
    for name, tensor in found.items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        expected = base[name]
        if f"{prefix}A.weight" in adapter:
            changed += 1
            scale = 8 / 4
            expected = (expected.float() + scale * (adapter[f"{prefix}B.weight"] @ adapter[f"{prefix}A.weight"])).to(
                torch.bfloat16
            )
        assert torch.equal(tensor, expected), name
    assert changed == 6


@pytest.mark.parametrize(("name", "method"), [("judge", "awq-4"), ("judge untied", "gptq-8")])
def test_a_compressed_judge_is_a_language_model_too(
    here: Path, tmp_path: Path, worker: Worker, name: str, method: str
) -> None:
    asked = Task(here / name, method, ROWS, ROWS, tmp_path / "small", rows=8, force=True, runtime=FP32)
    outcome = compress(asked)
    assert worker.calls == 1
    document = json.loads((tmp_path / "small" / "config.json").read_text())
    assert document["architectures"] == ["LlamaForCausalLM"]
    assert document["quantization_config"]["ignore"] == ["lm_head"]
    assert outcome.document["vllm"].startswith("CUDA")
    judge = judges.load(tmp_path / "small", FP32)
    assert isinstance(judge, GenerativeJudge)
    assert judge.settings.compression is not None
    assert judge.settings.verdicts == made.SINGLE
    after = predictions.probabilities(judge.predict(ROWS))
    assert np.abs(after - said(here / name)).max() == pytest.approx(outcome.parity.largest_change, abs=1e-4)
    assert not any("lm_head" in key and "packed" in key for key in load_file(tmp_path / "small" / "model.safetensors"))


@pytest.mark.slow
def test_a_merged_judge_goes_on_to_four_bits(here: Path, tmp_path: Path) -> None:
    merge.merge(here / "in four bits", ROWS, runtime=FP32, limit=1.0).judge.save(tmp_path / "merged")
    outcome = compress(Task(tmp_path / "merged", "nf4", ROWS, ROWS, tmp_path / "small", force=True))
    assert outcome.parity.rows == len(ROWS)
    assert said(tmp_path / "small", Runtime()).shape == (len(ROWS), 3)


def test_what_cannot_be_compressed_or_merged_is_refused(here: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in 4 bits") as caught:
        compress(Task(here / "in four bits", "awq-4", ROWS, ROWS, tmp_path / "out"))
    assert "combine merge" in caught.value.mend
    wrap(str(tiny.save(tmp_path / "reward", num_labels=1)), template=template("single")).save(tmp_path / "judge")
    with pytest.raises(UsageError, match="a reward judge is not compressed"):
        compress(Task(tmp_path / "judge", "nf4", ROWS, ROWS, tmp_path / "out"))
    with pytest.raises(UsageError, match="has no adapter"):
        merge.merge(tmp_path / "judge", ROWS)


def test_judges_that_spell_their_verdicts_otherwise_are_not_averaged(here: Path, tmp_path: Path) -> None:
    judge = judges.load(here / "judge")
    assert isinstance(judge, GenerativeJudge)
    other = judge.settings.model_copy(update={"verdicts": made.SINGLE.model_copy(update={"tie": ("D",)})})
    judge.manifest = judge.manifest.model_copy(update={"settings": other.document()})
    judge.save(tmp_path / "other")
    members = [alike.member(path) for path in (here / "judge", tmp_path / "other")]
    with pytest.raises(Exception, match="spellings of verdicts"):
        alike.check(members)
