"""Packed equals padded, for every family: logits, gradients, shared prefixes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tiny
from engine_rows import TIGHT, largest, padded, pairs, sequences
from tiebreak.engine import Engine, Options, Pooled, pack, segments
from tiebreak.errors import UsageError

LENGTHS = (5, 40, 1, 17, 33, 40, 80, 2)
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def gradients(model: nn.Module, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 3).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_packed_equals_padded(family: str) -> None:
    model, rows = tiny.model(family), sequences(*LENGTHS)
    with torch.no_grad():
        expected = padded(model, rows)
        got = Pooled.split(model)(pack(rows))
    assert got.dtype == torch.float32
    assert largest(got, expected) <= TIGHT
    assert expected.std(dim=0).min() > 0.05, "the rows must differ, or nothing is tested"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_that_was_packed_still_takes_padded_batches(family: str) -> None:
    model, rows = tiny.model(family), sequences(*LENGTHS)
    with torch.no_grad():
        expected = padded(model, rows)
        Pooled.split(model)(pack(rows))
        assert largest(padded(model, rows), expected) == 0.0


@pytest.mark.parametrize("family", ["llama", "gemma2", "modernbert", "deberta-v2"])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_sequence_does_not_see_its_neighbours(family: str, lengths: list[int], seed: int) -> None:
    model = Pooled.split(tiny.model(family))
    rows = sequences(*lengths, seed=seed)
    with torch.no_grad():
        together = model(pack(rows))
        alone = torch.cat([model(pack([row])) for row in rows])
        backwards = model(pack(rows[::-1])).flip(0)
    assert largest(together, alone) <= TIGHT
    assert largest(together, backwards) <= TIGHT


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_gradients_are_those_of_the_padded_batch(family: str) -> None:
    rows = sequences(*LENGTHS)
    reference, model = tiny.model(family), tiny.model(family)
    expected = gradients(reference, padded(reference, rows))
    got = gradients(model, Pooled.split(model)(pack(rows)))
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert largest(got[name], gradient) <= TIGHT * scale, name


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_gradients_survive_activation_checkpointing(family: str) -> None:
    rows = sequences(*LENGTHS)
    changes = STILL if family in {"bert", "deberta-v2"} else {}
    plain, model = tiny.model(family, **changes).train(), tiny.model(family, **changes).train()
    expected = gradients(plain, Pooled.split(plain)(pack(rows)))
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    got = gradients(model, Pooled.split(model)(pack(rows)))
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    for name, gradient in expected.items():
        assert largest(got[name], gradient) <= TIGHT, name


def adapted(family: str) -> Any:
    """With LoRA weights that matter: B starts at zero, which would hide a wrong A."""
    from peft import LoraConfig, TaskType, get_peft_model

    targets = {"bert": ["query", "value"], "deberta-v2": ["query_proj", "value_proj"], "modernbert": ["Wqkv"]}
    lora = LoraConfig(
        r=4, target_modules=targets.get(family, ["q_proj", "v_proj", "down_proj"]), task_type=TaskType.SEQ_CLS
    )
    made = get_peft_model(tiny.model(family), lora)
    torch.manual_seed(1)
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # asked for by peft
@pytest.mark.parametrize("family", ["llama", "gemma2", "bert"])
def test_an_adapter_trains_through_packed_batches(family: str) -> None:
    rows = sequences(*LENGTHS)
    reference, model = adapted(family), adapted(family)
    expected = gradients(reference, padded(reference, rows))
    logits = Pooled.split(model)(pack(rows))
    got = gradients(model, logits)
    assert any("lora_A" in name for name in expected)
    assert got.keys() == expected.keys()
    assert all(largest(got[name], expected[name]) <= TIGHT for name in expected)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_engine_does_not_leave_an_adapter_out(family: str) -> None:
    rows = sequences(*LENGTHS)
    with torch.no_grad():
        expected = padded(adapted(family), rows)
        without = padded(tiny.model(family), rows)
    run = Engine(adapted(family), Options(precision="fp32"))
    assert largest(run.logits(rows), expected) <= TIGHT
    assert largest(expected, without) > 0.01
    assert run.report["fallbacks"]


@pytest.mark.parametrize("family", tiny.DECODERS)
@pytest.mark.parametrize("prefix", [3, 40, 90])
def test_a_shared_prefix_changes_nothing(family: str, prefix: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are 16 or 24 tokens: at 40 and 90 the prefix reaches past them."""
    monkeypatch.setitem(segments.BLOCK, "cpu", 13)
    rows, _ = pairs(3, prefix)
    model = Pooled.split(tiny.model(family))
    with torch.no_grad():
        whole = model(pack(rows))
        packed = pack(rows, reuse=[0, prefix] * 3)
        assert packed.tokens == sum(map(len, rows)) - 3 * prefix
        assert largest(model(packed), whole) <= TIGHT


def test_gradients_flow_through_a_shared_prefix() -> None:
    rows, _ = pairs(2, 40)
    plain, model = tiny.model("gemma2"), tiny.model("gemma2")
    expected = gradients(plain, Pooled.split(plain)(pack(rows)))
    got = gradients(model, Pooled.split(model)(pack(rows, reuse=[0, 40] * 2)))
    for name, gradient in expected.items():
        assert largest(got[name], gradient) <= TIGHT * max(1.0, float(gradient.abs().max())), name


def test_mean_pooling_is_the_mean_of_each_sequence() -> None:
    rows = sequences(4, 9, 1)
    model = Pooled(tiny.model("bert").bert, "mean", nn.Identity())
    with torch.no_grad():
        states = model.hidden(pack(rows))
        got = model.embed(pack(rows))
    assert largest(got[1], states[4:13].mean(0)) <= TIGHT
    assert largest(got[2], states[13]) == 0.0


def test_modernbert_pools_by_the_mean_if_its_configuration_says_so() -> None:
    model, rows = tiny.model("modernbert", classifier_pooling="mean"), sequences(*LENGTHS)
    with torch.no_grad():
        expected = padded(model, rows)
        assert largest(Pooled.split(model)(pack(rows)), expected) <= TIGHT


@pytest.mark.parametrize("changes", [
    {"share_att_key": False}, {"pos_att_type": ["c2p"]}, {"pos_att_type": ["p2c"]}, {"relative_attention": False},
    {"position_buckets": -1}, {"conv_kernel_size": 3, "conv_act": "gelu"},
    {"position_biased_input": True, "type_vocab_size": 2}, {"embedding_size": 32},
], ids=str)  # fmt: skip
def test_every_shape_of_deberta(changes: dict[str, Any]) -> None:
    model, rows = tiny.model("deberta-v2", **changes), sequences(*LENGTHS)
    with torch.no_grad():
        expected = padded(model, rows)
        assert largest(Pooled.split(model)(pack(rows)), expected) <= TIGHT


def test_no_mask_of_all_tokens_by_all_tokens_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import masking_utils

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a dense mask")

    model = Pooled.split(tiny.model("gemma3_text"))
    for name in ("eager_mask", "sdpa_mask", "find_packed_sequence_indices"):
        monkeypatch.setattr(masking_utils, name, forbidden)
    with torch.no_grad():
        model(pack(sequences(30, 20)))


def test_dropout_acts_in_training_only() -> None:
    model, packed = Pooled.split(tiny.model("gemma2", attention_dropout=0.5)), pack(sequences(30, 20))
    with torch.no_grad():
        assert largest(model(packed), model(packed)) == 0.0
        model.train()
        assert largest(model(packed), model(packed)) > 0.01


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_autocast_reaches_attention(family: str) -> None:
    model, rows = tiny.model(family), sequences(*LENGTHS)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = padded(model, rows).float()
        assert 0 < largest(Pooled.split(model)(pack(rows)), expected) <= 0.15


def test_a_family_that_cannot_be_packed_is_refused() -> None:
    class Other(nn.Module):
        config = type("Config", (), {"model_type": "other"})

    with pytest.raises(UsageError, match="'other'"):
        Pooled.split(Other())


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
                                       "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                                       "original_max_position_embeddings": 32}}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("mistral", {"sliding_window": None}),
        ("modernbert", {"local_attention": 6, "global_attn_every_n_layers": 3}),
    ],
    ids=str,
)  # fmt: skip
def test_variants_of_the_families(family: str, changes: dict[str, Any]) -> None:
    model, rows = tiny.model(family, **changes), sequences(*LENGTHS)
    with torch.no_grad():
        expected = padded(model, rows)
        pooled = Pooled.split(model)
        assert largest(pooled(pack(rows)), expected) <= TIGHT
    assert pooled.causal is not changes.get("use_bidirectional_attention", family == "modernbert")


@pytest.mark.parametrize("family", ["phi3", "smollm3", "glm"])
def test_other_decoders_prove_themselves(family: str) -> None:
    model, rows = other(family), sequences(*LENGTHS)
    with torch.no_grad():
        expected = padded(model, rows)
        assert largest(Pooled.split(model)(pack(rows)), expected) <= TIGHT
    Pooled.split(model.to("meta"))


@pytest.mark.filterwarnings("ignore")  # its kernels are asked for
def test_recurrent_models_are_refused() -> None:
    with pytest.raises(UsageError, match="'jamba' cannot be packed"):
        Pooled.split(other("jamba"))


def other(family: str) -> Any:
    """A model of a family that tests/tiny.py does not know."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    size = {"vocab_size": 400, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "num_labels": 3}  # fmt: skip
    if family == "glm":
        size["head_dim"] = 16
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **size)
        return AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()


def test_positions_that_depend_on_the_batch_have_an_end() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert Pooled.split(tiny.model("llama", rope_parameters=rope)).max_positions == 512
    assert Pooled.split(tiny.model("llama")).max_positions is None
    assert Pooled.split(tiny.model("bert")).max_positions == 512
    assert Pooled.split(tiny.model("deberta-v2")).max_positions is None
    assert Pooled.split(tiny.model("deberta-v2", position_biased_input=True)).max_positions == 512


ATTEND = [(True, None), (True, 5), (False, None), (False, 5)]


@pytest.mark.parametrize(("causal", "window"), ATTEND)
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("keys", [23, 31])
def test_blocks_of_queries_make_no_difference(
    causal: bool, window: int | None, softcap: float | None, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the definition, written out: queries are the last 23 of `keys` positions."""
    monkeypatch.setitem(segments.BLOCK, "cpu", 7)
    make: Callable[[int], torch.Tensor] = lambda n: torch.randn(2, n, 8, generator=torch.Generator().manual_seed(n))  # noqa: E731
    query, key, value = make(23), make(keys), make(keys) + 1
    scores = query @ key.transpose(1, 2) * 0.7
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    ahead = np.arange(keys) - np.arange(keys - 23, keys)[:, None]
    hidden = (ahead > 0) & causal | (np.abs(ahead) >= (window or keys))
    expected = scores.masked_fill(torch.from_numpy(hidden), -torch.inf).softmax(-1) @ value
    got = segments.attend(query, key, value, scale=0.7, causal=causal, window=window, softcap=softcap, dropout=0.0)
    assert largest(got, expected) <= TIGHT
