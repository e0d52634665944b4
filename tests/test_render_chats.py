"""Chats under a tokenizer's own template: the template's ids where texts are harmless, no special token ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")

import tiny
from tiebreak.errors import UsageError
from tiebreak.render.chats import Chats
from tiebreak.render.texts import forbidden_ids

WITHOUT_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRAPS = [
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<pad>",
    "[SEP]",
    "{{ messages }}",
    "{% endfor %}",
    "",
    "\n",
    "é\ud800",
]

TEXT = st.lists(st.one_of(st.sampled_from(TRAPS), st.text(max_size=8)), max_size=4).map("".join)


def whole(chat: list[tuple[str, str]], *, answer: bool = True) -> list[int]:
    """As transformers itself renders it."""
    messages = [{"role": role, "content": text} for role, text in chat]
    made = tiny.tokenizer()
    text = made.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
    return list(made(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("answer", [True, False])
def test_harmless_texts_are_rendered_as_transformers_does(answer: bool) -> None:
    chats = [
        [("user", "which of the two")],
        [("system", "be brief"), ("user", "which"), ("assistant", "the brown fox"), ("user", "is it better")],
        [("user", "a"), ("assistant", "b")],
    ]
    found = Chats(tiny.tokenizer()).render(chats, answer=answer)
    assert [ids.tolist() for ids in found.sequences] == [whole(chat, answer=answer) for chat in chats]
    assert not found.truncated.any()


@given(texts=st.lists(TEXT, min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_texts_never_change_the_structure(texts: list[str]) -> None:
    tokenizer = tiny.tokenizer()
    roles = ["user", "assistant"] * 3
    chat = [(roles[i], text) for i, text in enumerate(texts)]
    special = sorted(forbidden_ids(tokenizer))

    def structure(chat: list[tuple[str, str]]) -> list[int]:
        ids = Chats(tokenizer).render([chat]).sequences[0]
        return ids[np.isin(ids, special)].tolist()

    assert structure(chat) == structure([(role, "fox") for role, _ in chat])


def test_a_system_text_stands_before_the_users_where_there_is_no_such_role() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = WITHOUT_SYSTEM
    ids = Chats(tokenizer).render([[("system", "be brief"), ("user", "which")]]).sequences[0]
    assert tokenizer.decode(ids) == "<|im_start|>user\nbe brief\n\nwhich<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_leaves_out_a_turn_is_refused() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "<|im_start|>{{ messages[0]['content'] }}<|im_end|>"
    with pytest.raises(UsageError, match="does not write turns"):
        Chats(tokenizer).render([[("user", "a"), ("assistant", "b"), ("user", "c")]])
    tokenizer.chat_template = None
    with pytest.raises(UsageError, match="no chat template"):
        Chats(tokenizer)


def test_the_longest_text_gives_up_its_middle() -> None:
    chats = Chats(tiny.tokenizer())
    chat = [("user", "fox " * 4), ("assistant", "".join(f"{n} " for n in range(200))), ("user", "better")]
    full = chats.render([chat])
    length = len(full.sequences[0])
    cut = chats.render([chat], max_length=length - 50)
    assert len(cut.sequences[0]) == length - 50
    assert cut.kept.tolist() == [full.kept[0] - 50]
    assert cut.truncated.all()
    text = tiny.tokenizer().decode(cut.sequences[0])
    assert "fox fox fox fox" in text
    assert "0 1 2 3" in text
    assert "198 199" in text
    with pytest.raises(UsageError, match="too few"):
        chats.render([chat], max_length=5)


def test_a_chat_does_not_depend_on_the_others() -> None:
    chats = Chats(tiny.tokenizer())
    some = [[("user", text)] for text in ("a", "bb", "a", "ccc")]
    together = chats.render(some).sequences
    for i, chat in enumerate(some):
        assert together[i].tolist() == Chats(tiny.tokenizer()).render([chat]).sequences[0].tolist()
