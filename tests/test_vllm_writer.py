"""Texts from vLLM: what depends on what, with a stand-in for vLLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
import vllm_made
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.generative.vllm.writer import VllmWriter, ends, seed
from tiebreak.judges.generative.writing import Conversation, Sampling
from tiebreak.judges.runtime import Runtime

ONE: Conversation = [("user", "which is better")]
OTHER: Conversation = [("system", "be brief"), ("user", "the quick brown fox <|im_end|>")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    vllm_made.install(tmp_path, monkeypatch)
    made = vllm_made.checkpoint(tmp_path)
    tiny.tokenizer().save_pretrained(made)
    (made / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": 0.6}')
    return made


def test_a_text_depends_on_its_own_words_number_and_seed_alone(folder: Path) -> None:
    writer = VllmWriter(folder, Runtime(precision="fp32"))
    moved: list[int] = []
    how = Sampling(max_tokens=6, temperature=1.0, samples=3, seed=4)
    found = writer.write([ONE, OTHER], how, advance=moved.append)
    assert sum(moved) == 2
    assert [len(texts) for texts in found] == [3, 3]
    assert len({text.text for texts in found for text in texts}) > 3
    assert writer.write([OTHER, ONE], how) == found[::-1]
    assert [texts[:1] for texts in found] == writer.write([ONE, OTHER], Sampling(6, 1.0, seed=4))
    assert writer.write([ONE], Sampling(6, 1.0, samples=3, seed=5)) != found[:1]
    assert all(text.tokens == 6 and not text.finished for texts in found for text in texts)
    assert writer.report["tokens"] == 18
    assert writer.write([], how) == []
    writer.close()


def test_what_ends_a_text_is_no_part_of_it(folder: Path) -> None:
    writer = VllmWriter(folder, Runtime(precision="fp32"))
    ended = writer.write([ONE], Sampling(max_tokens=20))[0][0]
    assert (ended.finished, ended.tokens) == (True, 9)
    assert "<|im_end|>" not in ended.text
    some = ended.text[2:4]
    stopped = writer.write([ONE], Sampling(max_tokens=20, stop=(some,)))[0][0]
    assert stopped.text == ended.text[: ended.text.index(some)]
    assert stopped.finished


def test_long_conversations_are_cut_to_the_window_and_counted(folder: Path) -> None:
    writer = VllmWriter(folder, Runtime(precision="fp32"))
    writer.write([[("user", "which of the two " * 200)], ONE], Sampling(max_tokens=12))
    assert writer.report["truncated"] == 1
    with pytest.raises(UsageError, match=r"window is 512.*--max-tokens 256"):
        writer.write([ONE], Sampling(max_tokens=512))


def test_the_ends_of_a_turn_are_those_of_model_and_tokenizer(folder: Path) -> None:
    assert ends(folder, 7) == [2, 7]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, 2]}))
    assert ends(folder, None) == [2, 9]
    (folder / "generation_config.json").unlink()
    with pytest.raises(DataError, match="which token ends a text"):
        ends(folder, None)


def test_seeds_differ_with_everything_that_a_text_depends_on() -> None:
    given = [(0, 0, ONE), (1, 0, ONE), (0, 1, ONE), (0, 0, OTHER)]
    assert len({seed(*each) for each in given}) == 4
    assert seed(0, 0, ONE) == seed(0, 0, [("user", "which is better")])
    assert 0 <= seed(3, 3, ONE) < 2**56
