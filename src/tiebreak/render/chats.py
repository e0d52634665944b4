"""Chats -> token ids under a tokenizer's own chat template, such that no text can yield a special token.

A chat template is a program over messages, and user text that passes through one can change what it writes. So only
places are given to it, one a turn; what it writes around them is tokenised as the template's own words, once for each
sequence of roles, and the texts are tokenised by `Texts`, which cannot make a special token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tiebreak.errors import UsageError
from tiebreak.render.frame import DATE, NO_CLOCK
from tiebreak.render.sequences import Sequences
from tiebreak.render.texts import Texts
from tiebreak.render.truncation import level

Turn = tuple[str, str]
"""Role (system, user or assistant) and text."""

_PLACE: Final = "TIEBREAKxPLACEx{}xOFxTHExTEXTS"
_PLACES: Final = re.compile(r"TIEBREAKxPLACEx(\d+)xOFxTHExTEXTS")
_APART: Final = "\n\n"


@dataclass(frozen=True)
class Chatted:
    """Chats as token ids.

    Attributes:
        sequences: One a chat.
        tokens: int64, a chat: tokens that its texts have.
        kept: int64, a chat: how many of them are in the sequence.
        turns: int64 (turns of all chats, 2): of each turn the tokens it has and the tokens kept.
    """

    sequences: Sequences
    tokens: np.ndarray
    kept: np.ndarray
    turns: np.ndarray

    @property
    def truncated(self) -> np.ndarray:
        """bool, a chat: whether some text was cut."""
        return np.asarray(self.kept < self.tokens)


class Chats:
    """Renders chats with one tokenizer.

    Args:
        tokenizer: A fast tokenizer of transformers with a chat template.

    Raises:
        UsageError: It is not a fast one, or has no chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError(
                "the tokenizer has no chat template",
                expected="a model that was trained on chats (its name often ends in -it, -Instruct or -chat)",
            )
        self._tokenizer = tokenizer
        self._texts = Texts(tokenizer)
        self._frames: dict[tuple[tuple[str, ...], bool], list[np.ndarray]] = {}

    def render(self, chats: Sequence[Sequence[Turn]], *, answer: bool = True, max_length: int | None = None) -> Chatted:
        """One sequence a chat.

        Args:
            chats: Turns of each, as roles and texts. A system text stands in front of the first user's where the
                template knows no such role.
            answer: Whether the beginning of an assistant's turn follows; without, the chat ends as it is (a reward
                model reads an answer that is there already).
            max_length: Tokens of a sequence at most; the longest texts of a longer chat give up their middle first.

        Raises:
            UsageError: The template does not write these turns as they are, or `max_length` is too small for its words.
        """
        flat = [text for chat in chats for _, text in chat]
        tokens = self._texts.encode(flat)
        arrays, wanted, given, first = [], [], [], 0
        turns: list[tuple[int, int]] = []
        for chat in chats:
            frame = self._frame(tuple(role for role, _ in chat), answer)
            places = range(first, first + len(chat))
            texts = [tokens.ids[tokens.starts[i] : tokens.starts[i] + tokens.lengths[i]] for i in places]
            kept = texts if max_length is None else _fitted(texts, max_length - sum(map(len, frame)), max_length)
            woven = [part for pair in zip(frame[:-1], kept, strict=True) for part in pair]
            arrays.append(np.concatenate([*woven, frame[-1]]))
            wanted.append(sum(map(len, texts)))
            given.append(sum(map(len, kept)))
            turns += zip(map(len, texts), map(len, kept), strict=True)
            first += len(chat)
        each = np.array(turns, dtype=np.int64).reshape(-1, 2)
        return Chatted(Sequences.of(arrays), np.array(wanted, dtype=np.int64), np.array(given, dtype=np.int64), each)

    def _frame(self, roles: tuple[str, ...], answer: bool) -> list[np.ndarray]:
        """What stands before, between and after the texts of turns with these roles."""
        if (roles, answer) not in self._frames:
            words = _PLACES.split(self._written(roles, answer))[::2]
            self._frames[roles, answer] = [self._ids(text) for text in words]
        return self._frames[roles, answer]

    def _ids(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else [], dtype=np.int32)

    def _written(self, roles: tuple[str, ...], answer: bool) -> str:
        """The template's text with the places in it, each once and in order."""
        from jinja2 import TemplateError

        source = self._tokenizer.get_chat_template()
        source = NO_CLOCK + source if "strftime_now" in source else source
        places = [_PLACE.format(number) for number in range(len(roles))]
        messages = [{"role": role, "content": place} for role, place in zip(roles, places, strict=True)]
        for attempt in (messages, _merged(messages)):
            try:
                text: str = self._tokenizer.apply_chat_template(
                    attempt, tokenize=False, add_generation_prompt=answer, chat_template=source, date_string=DATE
                )
            except TemplateError:
                continue
            if _PLACES.findall(text) == [str(number) for number in range(len(roles))]:
                return text
        raise UsageError(
            f"the tokenizer's chat template does not write turns of {', '.join(roles) or 'nobody'} as they are",
            expected="turns of user and assistant in turn, after at most one of system",
        )


def _merged(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The system's text in front of the first user's, for templates that know no system."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    first = {**messages[1], "content": f"{messages[0]['content']}{_APART}{messages[1]['content']}"}
    return [first, *messages[2:]]


def _fitted(texts: list[np.ndarray], room: int, max_length: int) -> list[np.ndarray]:
    lengths = [len(text) for text in texts]
    if sum(lengths) <= room:
        return texts
    if room < len(texts):
        raise UsageError(
            f"{max_length} tokens are too few for the chat template's own words ({max_length - room})",
            expected=f"at least {max_length - room + len(texts)}, and room for the texts",
        )
    kept = level(lengths, room, [1] * len(texts))
    return [
        text if count == len(text) else np.concatenate([text[: count - count // 2], text[len(text) - count // 2 :]])
        for text, count in zip(texts, kept, strict=True)
    ]
