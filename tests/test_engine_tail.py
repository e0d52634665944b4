"""Nobody reads the last layer's states of tokens that are not pooled, so they need not be computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from tiebreak.engine import Engine, Options, Pooled, pack, tail

SEQUENCES = [np.arange(10, 10 + n) for n in (40, 1, 17, 33)]


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_logits_are_those_of_the_whole_last_layer(family: str) -> None:
    with torch.no_grad():
        whole = Pooled.split(tiny.model(family)).eval()(pack(SEQUENCES)).numpy()
    engine = Engine(tiny.model(family), Options(precision="fp32"))
    assert isinstance(engine.pooled.backbone.layers[-1].mlp, tail.Tail)
    np.testing.assert_allclose(engine.logits(SEQUENCES), whole, atol=1e-5)


def test_all_states_are_whole_for_whoever_asks_for_all() -> None:
    with torch.no_grad():
        whole = Pooled.split(tiny.model("llama")).eval().hidden(pack(SEQUENCES))
        engine = Engine(tiny.model("llama"), Options(precision="fp32"))
        torch.testing.assert_close(engine.pooled.hidden(pack(SEQUENCES)), whole, atol=1e-5, rtol=0)


def test_the_mlp_of_the_last_layer_sees_the_tokens_that_are_read_alone() -> None:
    engine = Engine(tiny.model("llama"), Options(precision="fp32", max_tokens=1000))
    seen: list[int] = []
    engine.pooled.backbone.layers[-1].mlp.mlp.register_forward_hook(
        lambda m, given, out: seen.append(given[0].shape[1])
    )
    engine.logits(SEQUENCES)
    assert seen == [len(SEQUENCES)]


def test_an_encoder_keeps_its_layers() -> None:
    model = tiny.model("bert", num_hidden_layers=1)
    tail.install(model.bert)
    assert not any(isinstance(module, tail.Tail) for module in model.modules())
