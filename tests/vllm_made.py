"""A stand-in for the package `vllm`: the same calls, a model that is one formula, and faults on demand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tiebreak.judges.generative.vllm import place

VOCABULARY = 400

PACKAGE = '''
import math, os, signal, sys, time
from types import SimpleNamespace as Space

def logits(ids):
    """Of the next token: depends on all tokens before it and their places."""
    state = sum((place + 1) * token for place, token in enumerate(ids)) % 97
    return [2.5 * math.sin(0.37 * state + 1.3 * token) for token in range(400)]

class SamplingParams:
    LISTS
    def __init__(self, **given):
        self.__dict__.update(given)
        if "logprob_token_ids" in given and "logprob_token_ids" not in type(self).__annotations__:
            raise TypeError("logprob_token_ids")

class LLM:
    def __init__(self, **given):
        print("words on stdout that are no answer", flush=True)
        self.given, self.name = given, os.path.basename(given["model"])
        if "refused" in self.name:
            raise ValueError("Model architectures ['OddModel'] are not supported for now")
        if "dies" in self.name:
            sys.stderr.write("terminate called\\nbad_alloc\\n")
            os.abort() if "abort" in self.name else sys.exit(3)
        settings = Space(dtype="torch." + given["dtype"], quantization=None, max_model_len=given["max_model_len"])
        self.llm_engine = Space(model_config=settings)
        self.calls = 0

    def generate(self, prompts, params, use_tqdm, lora_request):
        self.calls += 1
        if "slow" in self.name and self.calls > 1:
            time.sleep(60)
        if "killed" in self.name and self.calls > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if "full" in self.name and self.calls > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        assert len(prompts) == len(params)
        return [self.one(prompt["prompt_token_ids"], how) for prompt, how in zip(prompts, params)]

    def one(self, ids, how):
        assert len(ids) + 1 <= self.given["max_model_len"], (len(ids), self.given["max_model_len"])
        if hasattr(how, "seed"):
            assert how.stop_token_ids == [2], how.stop_token_ids
            text = [(how.seed * 31 + place * place + sum(ids)) % 50 + 40 for place in range(how.max_tokens)]
            if how.max_tokens > 8:
                text[8:] = [2]
            told = [Space(token_ids=text, finish_reason="stop" if len(text) == 9 else "length")]
            return Space(outputs=told, num_cached_tokens=None)
        found = logits(ids)
        allowed = getattr(how, "allowed_token_ids", None) or range(400)
        total = math.log(sum(math.exp(found[token]) for token in allowed))
        wanted = getattr(how, "logprob_token_ids", None) or allowed
        told = {token: Space(logprob=found[token] - total) for token in wanted}
        return Space(outputs=[Space(logprobs=[told])], num_cached_tokens=16)
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, lists: bool = True) -> None:
    """Have the worker find this package and not the real one.

    Args:
        folder: Where it is written.
        monkeypatch: Of the test.
        lists: Whether this version tells log-probabilities by token id.
    """
    package = folder / "packages" / "vllm"
    for inner in ("lora", "platforms"):
        (package / inner).mkdir(parents=True, exist_ok=True)
    asked = "logprob_token_ids: list" if lists else "allowed_token_ids: list"
    (package / "__init__.py").write_text(PACKAGE.replace("LISTS", asked))
    (package / "lora" / "__init__.py").touch()
    (package / "lora" / "request.py").write_text("LoRARequest = lambda *given: given\n")
    (package / "platforms" / "__init__.py").write_text(
        "from types import SimpleNamespace\ncurrent_platform = SimpleNamespace(device_type='cpu')\n"
    )
    about = package.with_name("vllm-9.9.dist-info")
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 9.9\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={package.parent} exec {sys.executable} "$@"\n')  # without its -I
    python.chmod(0o755)
    monkeypatch.setenv(place.PYTHON, str(python))


def checkpoint(folder: Path, name: str = "model") -> Path:
    """A folder that has a configuration; there are no weights."""
    made = folder / name
    made.mkdir()
    (made / "config.json").write_text(
        '{"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 64, "max_position_embeddings": 512}'
    )
    return made


def probabilities(ids: np.ndarray) -> np.ndarray:
    """Of the next token, float64 (400,): the formula once more."""
    state = int(((np.arange(len(ids)) + 1) * ids).sum()) % 97
    weights = np.exp(2.5 * np.sin(0.37 * state + 1.3 * np.arange(VOCABULARY)))
    return weights / weights.sum()
