"""One place picks what writes: a model on this machine, vLLM, or a server."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.generative.local_writing import LocalWriter
from tiebreak.judges.generative.served.writer import ServedWriter
from tiebreak.judges.generative.vllm.writer import VllmWriter
from tiebreak.judges.generative.writers import Spec, writer
from tiebreak.judges.runtime import Runtime


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_config(tiny.config("llama"), dtype=torch.float32).save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)
    return place


def test_what_writes_follows_from_place_and_backend(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path))
    assert isinstance(writer(str(folder), Runtime(precision="fp32", devices="cpu")), LocalWriter)
    assert isinstance(writer(str(folder), Runtime(backend="vllm")), VllmWriter)
    served = writer(Spec("http://127.0.0.1:1/v1", "m", {"price_prompt": 2.0}), Runtime(backend="vllm"))
    assert isinstance(served, ServedWriter)
    assert (served.served.model, served.served.price_prompt) == ("m", 2.0)


def test_what_cannot_write(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="served:URL#MODEL"):
        writer(str(folder), Runtime(backend="openai"))
    with pytest.raises(UsageError, match="no such folder"):
        writer("./nowhere")
    encoder = tiny.save(tmp_path / "encoder", "bert")
    with pytest.raises(DataError):
        writer(str(encoder), Runtime(precision="fp32"))


def test_a_model_is_known_by_its_weights(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    AutoModelForCausalLM.from_config(tiny.config("llama"), dtype=torch.float32).save_pretrained(other)
    assert Spec(str(folder)).identity() == Spec.parse(str(folder)).identity() != Spec(str(other)).identity()
    assert Spec.parse("served:http://h/v1#m").identity() == "http://h/v1#m"
