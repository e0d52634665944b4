"""The kernels of GPUs, which this machine may not have: what is asked of them, against their documented meaning.

`flash` below does what flash-attn documents, in plain products: bounds, grouped heads, windows as (left, right)
distances, causal masks aligned to the last key, soft caps. The calls that the engine makes must give with it what
per-sequence attention gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from engine_rows import TIGHT, largest, pairs, sequences
from tiebreak.engine import Pooled, pack, varlen
from tiebreak.engine.varlen import Need

GPU = torch.device("cuda", 0)


def flash(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int,
    scale: float, window: tuple[int, int], causal: bool, softcap: float = 0.0,
) -> Tensor:  # fmt: skip
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert int(cu_q.diff().max()) == max_q
    assert int(cu_k.diff().max()) == max_k
    assert k.shape[0] == v.shape[0] == int(cu_k[-1])
    k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], 1) for part in (k, v))
    outs = []
    for i in range(len(cu_q) - 1):
        one, keys, values = q[cu_q[i] : cu_q[i + 1]], k[cu_k[i] : cu_k[i + 1]], v[cu_k[i] : cu_k[i + 1]]
        scores = torch.einsum("qhd,khd->hqk", one, keys) * scale
        scores = softcap * torch.tanh(scores / softcap) if softcap else scores
        at = torch.arange(len(one))[:, None] + len(keys) - len(one)
        ahead = torch.arange(len(keys)) - at
        left, right = window[0], 0 if causal else window[1]
        hidden = (ahead > right) & (right >= 0) | (-ahead > left) & (left >= 0)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        outs.append(torch.einsum("hqk,khd->qhd", weights, values))
    return torch.cat(outs)


def torch_new(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int, *,
    scale: float | None = None, window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """As of torch 2.13."""
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert scale is not None
    return flash(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, window_size, window_size == (-1, 0))


def torch_old(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int,
    is_causal: bool = False,
) -> Tensor:  # fmt: skip
    """As of torch 2.10."""
    assert query.shape[1] == key.shape[1]
    scale = query.shape[-1] ** -0.5
    return flash(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, (-1, -1), is_causal)


def flash_attn(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int,
    dropout_p: float = 0.0, softmax_scale: float = 1.0, causal: bool = False,
    window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
) -> Tensor:  # fmt: skip
    return flash(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale, window_size, causal, softcap
    )


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    caches = (varlen.choose, varlen._torch_can, varlen._flash_attn)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def there(monkeypatch: pytest.MonkeyPatch, *, own: Any = None, flash: Any = None, everywhere: bool = False) -> None:
    """Say which functions are installed, and that the GPU (or, `everywhere`, this CPU in fp32) can run them."""
    modules = {"torch.nn.attention.varlen": {"varlen_attn": own}, "flash_attn": {"flash_attn_varlen_func": flash}}

    def found(name: str) -> Any:
        functions = {key: value for key, value in modules[name].items() if value is not None}
        return type("Module", (), {key: staticmethod(value) for key, value in functions.items()})

    monkeypatch.setattr(varlen, "import_module", found)
    monkeypatch.setattr(varlen, "_has_flash", lambda device: everywhere or device.type == "cuda")
    if everywhere:
        monkeypatch.setattr(varlen, "HALVES", (torch.float32,))


CASES = [Need(0.3, causal, window) for causal in (True, False) for window in (None, 5)]


@pytest.mark.parametrize("need", CASES, ids=str)
@pytest.mark.parametrize("kernel", ["torch", "flash-attn"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_kernel_is_asked_for_what_the_layer_needs(
    need: Need, kernel: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, own=torch_new, flash=flash_attn)
    rows, _ = pairs(2, 20)
    packed = pack(rows, reuse=[0, 20, 0, 20] if shared else None)
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(4, packed.tokens, 8),
        torch.randn(2, packed.tokens, 8),
        torch.randn(2, packed.tokens, 8),
    )
    asked = varlen._torch_varlen if kernel == "torch" else varlen._flash_varlen
    expected = varlen._by_sequence(query, key, value, packed, need)
    assert largest(asked(query, key, value, packed, need), expected) <= TIGHT


def test_soft_caps_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, flash=flash_attn)
    packed, need = pack(sequences(20, 9)), Need(1.0, True, 7, softcap=2.0)
    query = torch.randn(2, 29, 8, generator=torch.Generator().manual_seed(0))
    expected = varlen._by_sequence(query, query, query, packed, need)
    assert largest(varlen._flash_varlen(query, query, query, packed, need), expected) <= TIGHT


def test_the_first_form_of_torchs_function_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scale, no window, no grouped heads."""
    there(monkeypatch, own=torch_old)
    packed, need = pack(sequences(20, 9)), Need(0.9, True)
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(4, 29, 8, generator=generator), torch.randn(2, 29, 8, generator=generator)
    expected = varlen._by_sequence(query, key, key, packed, need)
    assert largest(varlen._torch_varlen(query, key, key, packed, need), expected) <= TIGHT


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "mistral", "bert", "modernbert"])
@pytest.mark.parametrize("flash", [None, flash_attn], ids=["torch", "flash-attn"])
def test_whole_models_through_a_kernel(family: str, flash: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = Pooled.split(tiny.model(family)), sequences(5, 40, 1, 33)
    with torch.no_grad():
        expected = model(pack(rows))
        varlen.choose.cache_clear()
        there(monkeypatch, own=None if flash else torch_new, flash=flash, everywhere=True)
        assert largest(model(pack(rows)), expected) <= TIGHT
    assert varlen.names(model, torch.device("cpu")) == ["flash-attn varlen" if flash else "torch varlen"]


@pytest.mark.parametrize(
    ("own", "flash", "layer", "expected"),
    [
        (torch_new, flash_attn, {}, "torch varlen"),
        (torch_new, flash_attn, {"windowed": True}, "torch varlen"),
        (torch_new, flash_attn, {"softcapped": True}, "flash-attn varlen"),
        (torch_new, flash_attn, {"dropped": True}, "flash-attn varlen"),
        (torch_new, None, {"dropped": True}, "one SDPA a sequence"),
        (torch_new, None, {"softcapped": True}, "one matrix product a sequence"),
        (torch_old, flash_attn, {"windowed": True}, "flash-attn varlen"),
        (torch_old, None, {"windowed": True}, "one SDPA a sequence"),
        (torch_old, None, {}, "torch varlen"),
        (None, None, {}, "one SDPA a sequence"),
        (torch_new, flash_attn, {"dtype": torch.float32}, "one SDPA a sequence"),
        (torch_new, flash_attn, {"head_size": 320}, "one SDPA a sequence"),
        (torch_new, flash_attn, {"device": torch.device("cpu")}, "one SDPA a sequence"),
    ],
)
def test_the_kernel_is_one_that_can(
    own: Any, flash: Any, layer: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, own=own, flash=flash)
    kind = {"device": GPU, "dtype": torch.bfloat16, "head_size": 128, "windowed": False, "softcapped": False,
            "dropped": False} | layer  # fmt: skip
    name, _ = varlen.choose(
        kind["device"], kind["dtype"], kind["head_size"],
        windowed=kind["windowed"], softcapped=kind["softcapped"], dropped=kind["dropped"],
    )  # fmt: skip
    assert name == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_old_gpus_have_no_flash_attention(
    capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert varlen._has_flash(GPU) is expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_on_a_gpu_packed_is_what_the_cpu_gives(family: str) -> None:
    from tiebreak.engine import Engine, Options

    rows, index = pairs(6, 40)
    expected = Engine(tiny.model(family), Options(devices="cpu", precision="fp32")).logits(rows, pairs=index)
    exact = Engine(tiny.model(family), Options(devices="cuda", precision="fp32")).logits(rows, pairs=index)
    half = Engine(tiny.model(family), Options(devices="cuda", precision="bf16")).logits(rows, pairs=index)
    assert largest(exact, expected) <= 1e-4
    assert largest(half, expected) <= 0.15
