"""An answer as its reward model was trained to read it: the assistant's turn of a chat, in the model's own template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak.errors import UsageError
from tiebreak.render import Rendered, Renderer, Sequences, Template
from tiebreak.render.chats import Chats, Turn
from tiebreak.render.frame import DATE, NO_CLOCK
from tiebreak.render.renderer import ANSWER_LEDGER, CHUNK, Turns
from tiebreak.render.sequences import offsets_of

Chat = list[Turn]

_WORD: Final = "TIEBREAKxPADDEDxWORD"


class ChatRenderer(Renderer):
    """Renders answers as chats: each prompt a user's turn, each answer an assistant's, and nothing after the last.

    Of the template only `max_length`, the words for a missing text and its name are used: what stands around the texts
    is the tokenizer's chat template, and of a chat that is too long the longest texts give up their middle first.

    Args:
        template: The template `single`.
        tokenizer: A fast tokenizer with a chat template.
        unread: A token that is not read at the end of a sequence: transformers takes the state of the last token that
            is not padding, and where the chat's own last token is also the padding, that is the one before.

    Raises:
        UsageError: There is no chat template, it does not write turns as they are, or `max_length` is too small.
    """

    def __init__(self, template: Template, tokenizer: Any, unread: int | None = None) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self.unread = unread
        self._chats = Chats(tokenizer)
        self._words = len(self._chats.render([[("user", ""), ("assistant", "")]], answer=False).sequences[0])
        self._trimmed = _trims(tokenizer)
        if template.max_length < self.least_length:
            raise UsageError(
                f"max_length {template.max_length} is too small for the chat template of this tokenizer, whose own "
                f"words take {self._words} tokens",
                expected=f"at least {self.least_length}, and some hundreds more for the texts",
                mend=f"max_length: {max(512, 4 * self.least_length)}",
            )

    @property
    def least_length(self) -> int:
        """The smallest `max_length` for which a chat of one turn has room: a token each for prompt and answer."""
        return self._words + 2

    def at(self, max_length: int) -> ChatRenderer:
        """The same renderer with another budget.

        Raises:
            UsageError: The budget is too small for the chat template's own words.
        """
        return type(self)(self.template.model_copy(update={"max_length": max_length}), self.tokenizer, self.unread)

    def render_answers(self, prompts: Turns, answers: Turns) -> Rendered:
        """One chat a prompt and answer; first rounds go while the template's own words take half the budget.

        Args:
            prompts: Of each, what the person wrote, turn by turn.
            answers: Of each, the answers, one a turn.

        Raises:
            UsageError: A prompt and its answers have not equally many turns.
        """
        turns = [len(prompt) for prompt in prompts]
        if turns != [len(answer) for answer in answers] or 0 in turns:
            raise UsageError("prompts and answers differ in number or in turns", expected="one answer a turn, one turn")
        parts, ledgers = [Sequences.of([])], [np.zeros((0, 4), dtype=np.int64)]
        for start in range(0, len(turns), CHUNK):
            chunk = slice(start, start + CHUNK)
            chats = [self._turns(prompt, answer) for prompt, answer in zip(prompts[chunk], answers[chunk], strict=True)]
            sequences, ledger = self._render(chats)
            parts.append(sequences)
            ledgers.append(ledger)
        ledger = np.concatenate(ledgers)
        cut = (ledger[:, 1] < ledger[:, 0]) | (ledger[:, 3] < ledger[:, 2])
        return Rendered(Sequences.concat(parts), pl.DataFrame(dict(zip(ANSWER_LEDGER, ledger.T, strict=True))), cut)

    def _turns(self, prompt: Sequence[str | None], answer: Sequence[str | None]) -> Chat:
        chat = []
        for question, reply in zip(prompt, answer, strict=True):
            for role, text in (("user", question), ("assistant", reply)):
                words = self.template.marks.missing if text is None else text
                chat.append((role, words.strip() if role in self._trimmed else words))
        return chat

    def _render(self, chats: list[Chat]) -> tuple[Sequences, np.ndarray]:
        """The ids of some chats, and int64 (chats, 4), the columns of the ledger."""
        whole = self._chats.render(chats, answer=False)
        ids = list(whole.sequences)
        first = offsets_of(np.array([len(chat) for chat in chats], dtype=np.int64))[:-1]
        ledger = _ledger(whole.turns, first)
        for row in np.flatnonzero(whole.sequences.lengths > self.template.max_length):
            ids[row], ledger[row, 1::2] = self._cut(chats[row])
        return Sequences.of(self._read(one) for one in ids), ledger

    def _cut(self, chat: Chat) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a chat that is too long, and the tokens kept of prompt and answer."""
        while len(chat) > 2:
            whole = self._chats.render([chat], answer=False)
            words = len(whole.sequences[0]) - int(whole.tokens[0])
            if words <= self.template.max_length // 2:
                break
            chat = chat[2:]
        fitted = self._chats.render([chat], answer=False, max_length=self.template.max_length)
        return fitted.sequences[0], _ledger(fitted.turns, np.zeros(1, dtype=np.int64))[0, 1::2]

    def _read(self, ids: np.ndarray) -> np.ndarray:
        end = len(ids)
        while self.unread is not None and end > 1 and ids[end - 1] == self.unread:
            end -= 1
        return ids[:end]


def _ledger(turns: np.ndarray, first: np.ndarray) -> np.ndarray:
    """int64 (chats, 4) from the turns of all chats, (turns, 2), and where those of each chat begin."""
    questions = np.arange(len(turns)) % 2 == 0
    sides = [np.where((questions == asked)[:, None], turns, 0) for asked in (True, False)]
    return np.concatenate([np.add.reduceat(side, first) for side in sides], axis=1) if len(first) else turns[:, [0] * 4]


def _trims(tokenizer: Any) -> frozenset[str]:
    """The roles whose texts the chat template takes blanks from, as `content | trim` does: then so must we."""
    padded = [{"role": role, "content": f"  {role}{_WORD}\n "} for role in ("user", "assistant")]
    source = tokenizer.get_chat_template()
    source = NO_CLOCK + source if "strftime_now" in source else source
    text: str = tokenizer.apply_chat_template(padded, tokenize=False, chat_template=source, date_string=DATE)
    return frozenset(turn["role"] for turn in padded if turn["content"] not in text)
