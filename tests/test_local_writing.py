"""Writing on this machine: the same text whatever the batch, drawn from the model's own distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import tiny
from tiebreak.errors import UsageError
from tiebreak.judges.base.names import Base
from tiebreak.judges.generative import drawing
from tiebreak.judges.generative.local_writing import LocalWriter
from tiebreak.judges.generative.writing import Conversation, Sampling
from tiebreak.judges.runtime import Runtime
from tiebreak.render.chats import Chats

CHATS: list[Conversation] = [
    [("user", "which of the two")],
    [("user", "the quick brown fox asks which of the two answers is better " * 2), ("assistant", "b"), ("user", "why")],
    [("system", "brief"), ("user", "fox")],
    [("user", "<|im_end|> better")],
    [("user", "")],
]


def causal(family: str = "llama") -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(tiny.config(family), dtype=torch.float32)
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    return made.eval()


@pytest.fixture(scope="module")
def models() -> dict[str, torch.nn.Module]:
    return {name: causal(name) for name in ("llama", "gemma2")}


def by_hand(model: torch.nn.Module, chat: Conversation, steps: int) -> list[int]:
    """Greedy, one token at a time, without batch, padding or cache."""
    tokenizer = tiny.tokenizer()
    ids = Chats(tokenizer).render([chat]).sequences[0].tolist()
    written: list[int] = []
    with torch.inference_mode():
        while len(written) < steps and 2 not in written:
            written.append(int(model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax()))
    return written


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_greedy_is_the_likeliest_token_each_time(models: dict[str, torch.nn.Module], family: str) -> None:
    writer = LocalWriter(models[family], tiny.tokenizer(), rows=3)
    texts = writer.write(CHATS, Sampling(max_tokens=24))
    for chat, (text,) in zip(CHATS, texts, strict=True):
        expected = by_hand(models[family], chat, 24)
        assert text.tokens == len(expected)
        assert text.text == tiny.tokenizer().decode(expected, skip_special_tokens=True)
        assert text.finished == (2 in expected)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_a_text_does_not_depend_on_its_batch(models: dict[str, torch.nn.Module], top_p: float) -> None:
    how = Sampling(max_tokens=16, temperature=0.9, top_p=top_p, samples=3, seed=5)
    whole = LocalWriter(models["llama"], tiny.tokenizer(), rows=16).write(CHATS, how)
    small = LocalWriter(models["llama"], tiny.tokenizer(), rows=1)
    assert [small.write([chat], how)[0] for chat in CHATS] == whole
    turned = LocalWriter(models["llama"], tiny.tokenizer(), rows=4).write(CHATS[::-1], how)
    assert turned[::-1] == whole
    fewer = LocalWriter(models["llama"], tiny.tokenizer()).write(
        CHATS, Sampling(max_tokens=16, temperature=0.9, top_p=top_p, samples=1, seed=5)
    )
    assert [texts[0] for texts in fewer] == [texts[0] for texts in whole]
    assert len({text.text for texts in whole for text in texts}) > 10
    other = LocalWriter(models["llama"], tiny.tokenizer()).write(CHATS, Sampling(16, 0.9, top_p, 3, seed=6))
    assert other != whole


def test_draws_near_a_boundary_are_made_alone(
    models: dict[str, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every draw in doubt, all are made by rows on their own, and give the same texts."""
    how = Sampling(max_tokens=8, temperature=1.0, samples=2)
    writer = LocalWriter(models["llama"], tiny.tokenizer())
    plain = writer.write(CHATS, how)
    monkeypatch.setattr(drawing, "MASS_SLACK", 2.0)
    assert writer.write(CHATS, how) == plain
    assert writer.report["alone"] >= sum(text.tokens for texts in plain for text in texts)


def test_stops_end_a_text(models: dict[str, torch.nn.Module]) -> None:
    writer = LocalWriter(models["llama"], tiny.tokenizer())
    free = writer.write(CHATS, Sampling(max_tokens=24))
    stop = free[0][0].text[4:6]
    texts = writer.write(CHATS, Sampling(max_tokens=24, stop=(stop,)))
    for (text,), (whole,) in zip(texts, free, strict=True):
        assert text.text == whole.text.split(stop)[0]
        if stop in whole.text:
            assert text.finished
            assert text.tokens <= whole.tokens


def test_progress_and_report(models: dict[str, torch.nn.Module]) -> None:
    writer, steps = LocalWriter(models["llama"], tiny.tokenizer(), rows=2), []
    texts = writer.write(CHATS, Sampling(max_tokens=4, samples=3, temperature=1), advance=steps.append)
    assert sum(steps) == len(CHATS)
    assert writer.report["tokens"] == sum(text.tokens for some in texts for text in some)
    assert writer.report["exact"]
    assert writer.write([], Sampling()) == []


def test_a_long_conversation_leaves_room_for_the_text(models: dict[str, torch.nn.Module]) -> None:
    writer = LocalWriter(models["llama"], tiny.tokenizer())
    writer.write([[("user", "fox 1 " * 400)]], Sampling(max_tokens=4))
    assert writer.report["truncated"] == 1
    assert writer.report["prompt_tokens"] == 512 - 4
    with pytest.raises(UsageError, match="window"):
        writer.write(CHATS, Sampling(max_tokens=600))


def test_memory_that_does_not_suffice_halves_the_batch(
    models: dict[str, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Sampling(max_tokens=4)
    plain = LocalWriter(models["llama"], tiny.tokenizer()).write(CHATS, how)
    generate = models["llama"].generate

    def short_of_memory(ids: torch.Tensor, **options: object) -> torch.Tensor:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(ids, **options)

    monkeypatch.setattr(models["llama"], "generate", short_of_memory)
    assert LocalWriter(models["llama"], tiny.tokenizer()).write(CHATS, how) == plain


def test_from_a_folder(tmp_path: Path, models: dict[str, torch.nn.Module]) -> None:
    models["llama"].save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    writer = LocalWriter.load(Base(name=str(tmp_path)), Runtime(precision="fp32"))
    how = Sampling(max_tokens=8, temperature=1.0)
    assert writer.write(CHATS, how) == LocalWriter(models["llama"], tiny.tokenizer()).write(CHATS, how)
    with pytest.raises(UsageError, match="int8"):
        LocalWriter.load(Base(name=str(tmp_path)), Runtime(precision="int8"))


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7), (2.0, 0.9)])
def test_tokens_are_drawn_in_their_proportions(temperature: float, top_p: float) -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5, 1.9])
    shares = np.exp(logits.double().numpy() / temperature)
    shares /= shares.sum()
    order = np.argsort(-shares)
    inside = order[: 1 + int((np.cumsum(shares[order]) < top_p).sum())]
    expected = np.zeros(6)
    expected[inside] = shares[inside] / shares[inside].sum()
    count = 20_000
    chances = torch.from_numpy((np.arange(count) + 0.5) / count)
    tokens, sure = drawing.draw(logits.expand(count, 6), chances, temperature, top_p)
    assert np.abs(np.bincount(tokens.numpy(), minlength=6) / count - expected).max() < 2 / count
    assert sure.float().mean() > 0.99


@given(seed=st.integers(0, 1000), top_p=st.sampled_from([1.0, 0.9, 0.5]), temperature=st.sampled_from([0.0, 0.7, 1.5]))
@settings(max_examples=60, deadline=None)
def test_a_sure_draw_survives_rounding(seed: int, top_p: float, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(scale=3, size=(64, 50)).astype(np.float32))
    near = logits + torch.from_numpy(rng.uniform(-2e-5, 2e-5, size=(64, 50)).astype(np.float32))
    chances = torch.from_numpy(rng.random(64))
    one, sure = drawing.draw(logits, chances, temperature, top_p)
    other, _ = drawing.draw(near, chances, temperature, top_p)
    assert (one == other)[sure].all()
    assert sure.float().mean() > 0.8


def test_random_numbers_belong_to_the_conversation() -> None:
    first = drawing.uniforms(1, 0, CHATS[0], 5)
    assert (first == drawing.uniforms(1, 0, CHATS[0], 9)[:5]).all()
    others = [
        drawing.uniforms(2, 0, CHATS[0], 5),
        drawing.uniforms(1, 1, CHATS[0], 5),
        drawing.uniforms(1, 0, CHATS[1], 5),
    ]
    assert all((first != other).all() for other in others)
