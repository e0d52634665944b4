"""Comparisons -> token ids, under one template and one tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.errors import UsageError
from tiebreak.render.assembly import Assembled, Assembler, Column
from tiebreak.render.canaries import comparison_table
from tiebreak.render.frame import Frame
from tiebreak.render.sequences import Rendered, Sequences
from tiebreak.render.templates import Template
from tiebreak.render.texts import Texts, Tokens

CHUNK: Final = 4096
"""Rows rendered at once."""

ANSWER_LEDGER: Final = ("tokens_prompt", "kept_prompt", "tokens_answer", "kept_answer")
"""The ledger of `render_answers`."""

Turns = Sequence[Sequence[str | None]]


class Renderer:
    """Renders with one template and one tokenizer. Texts are tokenised in batches, by the tokenizer's own threads.

    Args:
        template: What stands around the texts, the budget, and the policy for texts that do not fit.
        tokenizer: A fast tokenizer of transformers.

    Raises:
        UsageError: The tokenizer is not a fast one, its chat template cannot be used, or `max_length` is too small for
            the template's own words.
    """

    def __init__(self, template: Template, tokenizer: Any) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self._texts = Texts(tokenizer)
        self._frame = Frame(template, tokenizer)
        self._assembler = Assembler(template, self._frame)

    @property
    def least_length(self) -> int:
        """The smallest `max_length` for which instruction, marks and suffix have room."""
        return self._assembler.least

    def render(self, table: pl.DataFrame) -> Rendered:
        """One sequence a row, answer A first as given.

        Args:
            table: Comparisons, validated.

        Returns:
            Sequences of at most `max_length` tokens, and the ledger with the columns `predictions.LEDGER`.

        Raises:
            UsageError: The template is for single answers.
        """
        return self._orders(table, (False,))[0]

    def render_both(self, table: pl.DataFrame) -> tuple[Rendered, Rendered]:
        """`render(table)` and `render(comparisons.swap(table))`, tokenised once."""
        given, swapped = self._orders(table, (False, True))
        return given, swapped

    def render_answers(self, prompts: Turns, answers: Turns) -> Rendered:
        """One sequence a prompt and answer, with the template `single`.

        Args:
            prompts: Of each, what the person wrote, turn by turn.
            answers: Of each, the answers, one a turn.

        Returns:
            Sequences, and the ledger with the columns `ANSWER_LEDGER`.

        Raises:
            UsageError: The template is for pairs, or a prompt and its answers have not equally many turns.
        """
        if self.template.name != "single":
            raise UsageError(f"the template {self.template.name} renders pairs", expected="the template single")
        turns = [len(prompt) for prompt in prompts]
        if turns != [len(answer) for answer in answers] or 0 in turns:
            raise UsageError("prompts and answers differ in number or in turns", expected="one answer a turn, one turn")
        parts = []
        for start in range(0, len(turns), CHUNK):
            chunk = slice(start, start + CHUNK)
            flat = [[text for one in column[chunk] for text in one] for column in (prompts, answers)]
            columns = self._columns(flat, self._assembler.kinds)
            parts.append(self._assembler.assemble(columns, np.array(turns[chunk], dtype=np.int64)))
        return _rendered(parts, ANSWER_LEDGER)

    def fingerprint(self) -> str:
        """A sha256 of the template and of the ids that fixed comparisons get: what a bundle records.

        The comparisons hold every kind of text, and are rendered at the template's own length and at short ones, so
        that every branch of its policy is taken. Another template, vocabulary, normaliser or chat template, or another
        version of either library that splits a text otherwise, gives another fingerprint.
        """
        digest = hashlib.sha256(json.dumps(self.template.model_dump(mode="json"), sort_keys=True).encode())
        least = self.least_length
        for length in sorted({self.template.max_length, least, least + 37, least + 200}):
            at = self.at(length)
            for rendered in at._canaries(min(length, 2048)):
                digest.update(rendered.sequences.offsets.astype("<i8").tobytes())
                digest.update(rendered.sequences.ids.astype("<i4").tobytes())
        return digest.hexdigest()

    def text(self, table: pl.DataFrame) -> list[str]:
        """The rendering of each row as text, for people."""
        return [self.tokenizer.decode(ids.tolist()) for ids in self.render(table).sequences]

    def at(self, max_length: int) -> Renderer:
        """The same renderer with another budget; the tokenizer's own preparation is shared.

        Raises:
            UsageError: The budget is too small for the template's own words.
        """
        other = object.__new__(Renderer)
        other.template = self.template.model_copy(update={"max_length": max_length})
        other.tokenizer, other._texts, other._frame = self.tokenizer, self._texts, self._frame
        other._assembler = Assembler(other.template, self._frame)
        return other

    def _canaries(self, length: int) -> tuple[Rendered, ...]:
        table = comparison_table(length)
        if self.template.name != "single":
            return self.render_both(table)
        prompts, a, b = (table[name].to_list() for name in comparisons.TEXTS)
        return self.render_answers(prompts, a), self.render_answers(prompts, b)

    def _orders(self, table: pl.DataFrame, swapped: Sequence[bool]) -> list[Rendered]:
        if self.template.name == "single":
            raise UsageError("the template single renders one answer at a time", expected="a template for pairs")
        parts: list[list[Assembled]] = [[] for _ in swapped]
        for chunk in table.iter_slices(CHUNK):
            texts, turns = self._chunk(chunk)
            prompt, a, b = self._columns(texts, self._assembler.kinds)
            for part, exchange in zip(parts, swapped, strict=True):
                first, second = (b, a) if exchange else (a, b)
                columns = [
                    prompt,
                    Column(first.tokens, first.missing, "answer_a"),
                    Column(second.tokens, second.missing, "answer_b"),
                ]
                part.append(self._assembler.assemble(columns, turns))
        return [_rendered(part, predictions.LEDGER) for part in parts]

    def _chunk(self, table: pl.DataFrame) -> tuple[list[list[str | None]], np.ndarray]:
        """The texts of each column, and how many of them each row has."""
        if self.template.layout == "fields":
            joint = self.template.marks.joint
            fields = table.select(
                pl.when(pl.col(name).list.drop_nulls().list.len() > 0)
                .then(pl.col(name).list.join(joint, ignore_nulls=True))
                .alias(name)
                for name in comparisons.TEXTS
            )
            return [fields[name].to_list() for name in comparisons.TEXTS], np.ones(table.height, dtype=np.int64)
        turns = table["prompt"].list.len().to_numpy().astype(np.int64)
        return [table[name].explode().to_list() for name in comparisons.TEXTS], turns

    def _columns(self, texts: Sequence[Sequence[str | None]], kinds: Sequence[str]) -> list[Column]:
        """Tokenise everything of a chunk in one go; equal texts once."""
        whole = self._texts.encode([text or "" for column in texts for text in column])
        columns = []
        start = 0
        for column, kind in zip(texts, kinds, strict=True):
            own = slice(start, start + len(column))
            tokens = Tokens(whole.ids, whole.starts[own], whole.lengths[own])
            columns.append(Column(tokens, np.array([text is None for text in column], dtype=bool), kind))
            start += len(column)
        return columns


def _rendered(parts: list[Assembled], names: Sequence[str]) -> Rendered:
    kinds = len(names) // 2
    tokens = np.concatenate([np.zeros((kinds, 0), dtype=np.int64), *(part.tokens for part in parts)], axis=1)
    kept = np.concatenate([np.zeros((kinds, 0), dtype=np.int64), *(part.kept for part in parts)], axis=1)
    columns = dict(zip(names, (side[kind] for kind in range(kinds) for side in (tokens, kept)), strict=True))
    sequences = Sequences.concat(part.sequences for part in parts)
    return Rendered(sequences, pl.DataFrame(columns), np.asarray((kept < tokens).any(axis=0)))
