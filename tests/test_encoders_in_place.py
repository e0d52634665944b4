"""What speeding up an encoder leaves as it was, and what it says."""

from __future__ import annotations

import pytest
import torch
from tests import tiny
from torch import nn

from tiebreak.engine.encoders import fast_path, speed_up_encoder
from tiebreak.engine.encoders.linear import FusedLinear

IDS = torch.tensor([[4, 30, 31, 32, 5]])


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_gradients_go_the_models_own_way(family: str) -> None:
    plain, fast = (tiny.model(family).base_model for _ in range(2))
    speed_up_encoder(fast, precision="bf16")
    for model in (plain, fast):
        model(input_ids=IDS).last_hidden_state.sum().backward()
    gradients = [[p.grad for p in model.parameters() if p.grad is not None] for model in (plain, fast)]
    assert gradients[0]
    for want, got in zip(*gradients, strict=True):
        assert torch.equal(want, got)


def test_what_the_fast_path_does_not_give_comes_from_the_model() -> None:
    fast = tiny.model("bert").base_model
    speed_up_encoder(fast, precision="fp32")
    with torch.inference_mode():
        out = fast(input_ids=IDS, output_hidden_states=True, output_attentions=True)
        plain = fast(input_ids=IDS)
        square = fast(input_ids=IDS, attention_mask=torch.zeros(1, 1, 5, 5))
    assert len(out.hidden_states) == 4
    assert len(out.attentions) == 3
    torch.testing.assert_close(out.last_hidden_state, plain.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(square.last_hidden_state, plain.last_hidden_state, atol=1e-5, rtol=1e-5)


def test_parameters_stay_and_a_second_call_takes_new_weights() -> None:
    model = tiny.model("bert").base_model
    names = set(model.state_dict())
    speed_up_encoder(model, precision="fp32")
    assert set(model.state_dict()) == names
    with torch.inference_mode():
        before = model(input_ids=IDS).last_hidden_state
        model.embeddings.word_embeddings.weight += 0.5
        model.encoder.layer[0].output.dense.weight *= 2
        speed_up_encoder(model, precision="fp32")
        after = model(input_ids=IDS).last_hidden_state
        own = model(input_ids=IDS, output_hidden_states=True).last_hidden_state
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes", "why"),
    [
        ("llama", {}, "no fast path for this family"),
        ("bert", {"hidden_act": "relu"}, "activation 'relu'"),
        ("deberta-v2", {"conv_kernel_size": 3}, "convolution"),
        ("deberta-v2", {"relative_attention": False}, "without relative positions"),
        ("modernbert", {"hidden_activation": "silu"}, "activation 'silu'"),
    ],
)
def test_what_cannot_be_made_fast_stays_as_it_was_and_says_why(
    family: str, changes: dict[str, object], why: str
) -> None:
    model = tiny.model(family, **changes).base_model
    forward = model.forward
    report = speed_up_encoder(model, precision="fp32")
    assert report["path"] == "unchanged"
    assert why in report["why"]
    assert model.forward == forward
    assert fast_path(model) is None


def test_int8_is_said_to_be_bfloat16() -> None:
    report = speed_up_encoder(tiny.model("bert").base_model, precision="int8")
    assert report["precision"] == "bf16"
    assert "int8" in report["why"]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_with_and_without_one_dnn(fused: bool, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fused:
        monkeypatch.setattr("tiebreak.engine.encoders.linear.fuses", lambda dtype: False)
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(24, 40, bias=bias)
    x, residual = torch.randn(7, 24, generator=generator), torch.randn(7, 40, generator=generator)
    with torch.no_grad():
        made, want = FusedLinear.of(linear, torch.float32), linear(x)
        torch.testing.assert_close(made(x), want)
        torch.testing.assert_close(made.plus(x, residual), want + residual)
        torch.testing.assert_close(made(x, "gelu"), nn.functional.gelu(want))
        torch.testing.assert_close(made(x, "gelu_tanh"), nn.functional.gelu(want, approximate="tanh"))
