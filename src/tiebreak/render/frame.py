"""The template's own tokens: what stands around the texts. Made once a template and tokenizer."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from tiebreak.errors import UsageError
from tiebreak.render.templates import Template

PLACE: Final = "TIEBREAK0PLACE0OF0THE0TEXTS"
"""Stands for the conversation while the chat template is applied: user text never passes through a chat template."""

DATE: Final = "26 Jul 2024"
"""Some chat templates write today's date; a rendering must be the same every day."""

NO_CLOCK: Final = f"{{% macro strftime_now(form) %}}{DATE}{{% endmacro %}}"
"""In front of a chat template that asks for the time, this hides the function that tells it."""


class Frame:
    """Token ids of a template under a tokenizer.

    Attributes:
        before: From the first token to the first mark: special tokens, instruction, opening.
        after: From the last text to the last token: closing, end of the chat's turn, suffix.
    """

    def __init__(self, template: Template, tokenizer: Any) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._snips: dict[int, np.ndarray] = {}
        self._marks: dict[str, list[np.ndarray]] = {}
        before, after = self._surroundings()
        self.before = before
        self.after = after
        self.end = self._ids(template.marks.end)
        self.second = self._ids(template.marks.second)

    def marks(self, kind: str, turns: int) -> list[np.ndarray]:
        """What stands before the texts of a kind (prompt, answer_a, answer_b), for the turns 1 ... turns."""
        mark: str = getattr(self._template.marks, kind)
        known = self._marks.setdefault(kind, [])
        if len(known) < turns:
            wanted = [mark.replace("{turn}", str(turn + 1)) for turn in range(len(known), turns)]
            ids = dict.fromkeys(wanted)
            known += [self._ids(text) for text in ids] * (len(wanted) if len(ids) == 1 else 1)
        return known[:turns]

    def missing(self) -> np.ndarray:
        """What stands instead of a null."""
        return self._ids(self._template.marks.missing)

    def snip(self, count: int) -> np.ndarray:
        """What marks a cut of so many tokens."""
        mark = self._template.marks.snip
        key = count if "{count}" in mark else 0
        if key not in self._snips:
            self._snips[key] = self._ids(mark.replace("{count}", str(count)))
        return self._snips[key]

    def _ids(self, text: str) -> np.ndarray:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return np.array(ids, dtype=np.int32)

    def _surroundings(self) -> tuple[np.ndarray, np.ndarray]:
        template, marks = self._template, self._template.marks
        if template.chat and getattr(self._tokenizer, "chat_template", None):
            before, after = self._chat(f"{marks.opening}{PLACE}{marks.closing}").split(PLACE)
            return self._ids(before), self._ids(after + template.suffix)
        first, last = self._specials()
        opening = self._ids(f"{_apart(template.instruction)}{marks.opening}")
        closing = self._ids(f"{marks.closing}{_apart(template.suffix, before=True)}")
        return np.concatenate([first, opening]), np.concatenate([closing, last])

    def _chat(self, content: str) -> str:
        """The chat as text: the instruction as system message, or before the content where there is no such role."""
        from jinja2 import TemplateError

        instruction = self._template.instruction
        source = self._tokenizer.get_chat_template()
        source = NO_CLOCK + source if "strftime_now" in source else source
        user = {"role": "user", "content": content}
        merged = {"role": "user", "content": _apart(instruction) + content}
        for messages in ([{"role": "system", "content": instruction}, user] if instruction else [user], [merged]):
            try:
                text: str = self._tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=True,
                    chat_template=source,
                    date_string=DATE,
                )
            except TemplateError:
                continue
            if text.count(PLACE) == 1 and instruction.strip() in text:
                return text
        raise UsageError(
            "the tokenizer's chat template does not take a message of a user as it is",
            expected="one that writes instruction and message whole, once",
            mend="set chat: false in the template",
        )

    def _specials(self) -> tuple[np.ndarray, np.ndarray]:
        """What the tokenizer itself puts before and after a text ([CLS] and [SEP], or a beginning of sequence)."""
        bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self._tokenizer("a")["input_ids"]
        at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return np.array(whole[:at], dtype=np.int32), np.array(whole[at + len(bare) :], dtype=np.int32)


def _apart(text: str, *, before: bool = False) -> str:
    """A text with an empty line after it, or before it; nothing stays nothing."""
    if not text:
        return ""
    return f"\n\n{text}" if before else f"{text}\n\n"
