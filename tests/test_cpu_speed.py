"""A decoder with its modules replaced gives what transformers gives; without a compiler it is transformers."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from tiebreak.engine import Engine, Options, Pooled, cpu, pack
from tiebreak.engine.cpu import allocator, native, speed
from tiebreak.engine.cpu.native import Kernels, Unavailable
from tiebreak.errors import UsageError

FOUND = cpu.load_kernels()
compiled = pytest.mark.skipif(isinstance(FOUND, Unavailable), reason=getattr(FOUND, "reason", "there"))
LENGTHS = (1, 5, 40, 33, 100, 300, 64, 12)
TOLERANCE = {"fp32": 1e-5, "bf16": 0.12, "int8": 0.35}
"""Of logits around 2.5: bf16 keeps 8 bits, and transformers itself is .05 off in it."""


def sequences(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(6, 300, length) for length in lengths or LENGTHS]


@torch.inference_mode()
def logits(pooled: Pooled, rows: list[np.ndarray], reuse: list[int] | None = None) -> Tensor:
    return pooled(pack(rows, reuse=reuse))


def sped_up(family: str, precision: Any, **changes: Any) -> Pooled:
    pooled = Pooled.split(tiny.model(family, **changes)).eval()
    assert cpu.speed_up(pooled.backbone, precision=precision) == []
    return pooled


@compiled
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("family", tiny.DECODERS)
def test_packed_logits_are_those_of_transformers(family: str, precision: str) -> None:
    plain = logits(Pooled.split(tiny.model(family)), sequences())
    found = logits(sped_up(family, precision), sequences())
    assert (found - plain).abs().max() <= TOLERANCE[precision]
    assert plain.abs().max() > 1.0


@compiled
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_row_does_not_depend_on_its_batch(precision: str) -> None:
    pooled, rows = sped_up("llama", precision), sequences()
    with torch.inference_mode():
        together = pooled.embed(pack(rows))
        assert torch.equal(together.flip(0), pooled.embed(pack(rows[::-1])))
        assert torch.equal(together, torch.cat([pooled.embed(pack([row])) for row in rows]))


@compiled
@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "qwen3"])
def test_a_shared_prefix_changes_no_bit(family: str) -> None:
    pooled = sped_up(family, "bf16")
    first, other = sequences(300, 70)
    for prefix in (1, 31, 50, 299):
        second = np.concatenate([first[:prefix], other])
        assert torch.equal(logits(pooled, [first, second]), logits(pooled, [first, second], [0, prefix]))


@compiled
@pytest.mark.parametrize("family", tiny.DECODERS)
def test_padded_batches_still_go_through_transformers(family: str) -> None:
    first, second = sequences(40, 23)
    ids = torch.zeros(2, 40, dtype=torch.int64)
    mask = torch.zeros(2, 40, dtype=torch.int64)
    for i, row in enumerate((first, second)):
        ids[i, : len(row)], mask[i, : len(row)] = torch.from_numpy(row), 1
    plain, fast = tiny.model(family), sped_up(family, "fp32").backbone
    with torch.inference_mode():
        expected = plain.model(input_ids=ids, attention_mask=mask).last_hidden_state
        found = fast(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (found - expected)[mask.bool()].abs().max() < 1e-4  # states of about 10


@compiled
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 130), min_size=1, max_size=6), st.integers(1, 70), st.sampled_from([0.0, 20.0]))
def test_any_lengths_and_windows(lengths: list[int], window: int, softcap: float) -> None:
    changes = {"sliding_window": window, "attn_logit_softcapping": softcap or None}
    plain = Pooled.split(tiny.model("gemma2", **changes))
    rows = sequences(*lengths)
    assert (logits(plain, rows) - logits(sped_up("gemma2", "fp32", **changes), rows)).abs().max() < 3e-5


@compiled
@pytest.mark.parametrize("size", [16, 48, 128, 256])
def test_head_sizes(size: int) -> None:
    changes = {"head_dim": size, "hidden_size": 96}
    plain = logits(Pooled.split(tiny.model("llama", **changes)), sequences())
    assert (logits(sped_up("llama", "fp32", **changes), sequences()) - plain).abs().max() < 2e-5


@compiled
def test_the_engine_takes_int8_and_says_what_it_did() -> None:
    plain = Engine(tiny.model("llama"), Options(precision="fp32", devices="cpu")).logits(sequences())
    engine = Engine(tiny.model("llama"), Options(precision="int8", devices="cpu"))
    assert np.abs(engine.logits(sequences()) - plain).max() < TOLERANCE["int8"]
    assert engine.report["precision"] == "int8"
    assert engine.report["fallbacks"] == []


@compiled
def test_a_layer_of_another_form_stays_and_is_named() -> None:
    class Adapted(nn.Linear):
        """As an unmerged adapter is: a linear layer and something more."""

        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2

    model = tiny.model("llama")
    mlp, attention = model.model.layers[1].mlp, model.model.layers[2].self_attn
    for owner, name in ((mlp, "up_proj"), (attention, "q_proj")):
        adapted = Adapted(getattr(owner, name).in_features, getattr(owner, name).out_features, bias=False)
        adapted.weight = getattr(owner, name).weight
        setattr(owner, name, adapted)
    pooled = Pooled.split(model)
    plain = logits(pooled, sequences())
    missed = cpu.speed_up(pooled.backbone, precision="fp32")
    assert missed == [f"plain {part} in 1 of 3 layers: its form is not known" for part in ("MLP", "attention")]
    assert (logits(pooled, sequences()) - plain).abs().max() < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_a_compiler_the_modules_stay(monkeypatch: pytest.MonkeyPatch, precision: Any) -> None:
    monkeypatch.setattr(speed, "load_kernels", lambda: Unavailable("no C++ compiler (g++) is installed"))
    pooled = Pooled.split(tiny.model("llama"))
    plain = logits(pooled, sequences())
    assert cpu.speed_up(pooled.backbone, precision=precision) == ["plain layers: no C++ compiler (g++) is installed"]
    pooled.head.to(torch.float32)
    assert (logits(pooled, sequences()) - plain).abs().max() <= TOLERANCE[precision]


def test_without_a_compiler_int8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "load_kernels", lambda: Unavailable("no C++ compiler (g++) is installed"))
    with pytest.raises(UsageError, match=r"no int8 path: no C\+\+ compiler"):
        cpu.speed_up(tiny.model("llama").model, precision="int8")


def anew() -> Kernels | Unavailable:
    """`load_kernels` without what it remembers."""
    return native.load_kernels.__wrapped__()


def test_why_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_can_run", lambda: False)
    assert "AVX512-BF16" in anew().reason  # type: ignore[union-attr]
    monkeypatch.setattr(native, "_can_run", lambda: True)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    assert anew() == Unavailable("no C++ compiler (g++) is installed")
    broken = tmp_path / "compiler"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'k.cpp:1: error: no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(native.shutil, "which", lambda name: str(broken))
    assert anew() == Unavailable("the kernels could not be compiled: k.cpp:1: error: no such luck")
    assert not list((tmp_path / "tiebreak").iterdir())
    monkeypatch.setenv(native.SWITCH, "off")
    assert anew() == Unavailable("TIEBREAK_KERNELS=off")


@compiled
def test_kernels_are_compiled_once_and_never_taken_from_a_folder_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(native.SWITCH, raising=False)
    assert isinstance(anew(), Kernels)
    (library,) = (tmp_path / "tiebreak").iterdir()
    made = library.stat().st_mtime_ns
    assert isinstance(anew(), Kernels)
    assert library.stat().st_mtime_ns == made
    library.parent.chmod(0o777)
    assert native._cache() != library.parent


def test_a_system_without_mallopt_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in (SimpleNamespace(), None):

        def load(name: Any, library: Any = library) -> Any:
            if library is None:
                raise OSError("no such library")
            return library

        monkeypatch.setattr(ctypes, "CDLL", load)
        assert allocator.settle_allocator() is False


def test_the_matrix_rate_is_a_rate() -> None:
    assert cpu.matrix_rate(torch.float32, rows=64, seconds=0.02, shapes=((64, 64),)) > 1e6
