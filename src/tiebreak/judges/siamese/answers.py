"""The answers of a table, each once and in an order of their own, whichever side they were given on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

Turns = list[str | None]


@dataclass(frozen=True)
class Answers:
    """The different pairs of prompt and answer in a table.

    Attributes:
        prompts: Of each pair, turn by turn.
        answers: Of each pair, turn by turn.
        pairs: int64 (rows, 2): which pair stands on side A and which on side B of each row.
    """

    prompts: list[Turns]
    answers: list[Turns]
    pairs: np.ndarray

    @classmethod
    def of(cls, table: pl.DataFrame) -> Answers:
        """From a table of comparisons; a table and its swapped twin give the same answers in the same order."""
        prompts = table["prompt"].to_list()
        sides = [_keys(prompts, table[name].to_list()) for name in ("response_a", "response_b")]
        place = {key: number for number, key in enumerate(sorted(set(sides[0]) | set(sides[1])))}
        return cls(
            [[text for _, text in prompt] for prompt, _ in place],
            [[text for _, text in answer] for _, answer in place],
            np.array([[place[key] for key in side] for side in sides], dtype=np.int64).T.reshape(-1, 2),
        )


_Key = tuple[tuple[tuple[bool, str | None], ...], tuple[tuple[bool, str | None], ...]]


def _keys(prompts: Sequence[Turns], answers: Sequence[Turns]) -> list[_Key]:
    return [(_sortable(prompt), _sortable(answer)) for prompt, answer in zip(prompts, answers, strict=True)]


def _sortable(turns: Turns) -> tuple[tuple[bool, str | None], ...]:
    """Turns as something that can be sorted although some of them are null: null first, apart from an empty text."""
    return tuple((text is not None, text) for text in turns)
