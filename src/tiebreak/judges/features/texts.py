"""From a table of comparisons to counts: what stands in each prompt and each answer.

Every number belongs to one row alone: nothing here looks at a neighbour, so an answer does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from tiebreak.judges.features import properties
from tiebreak.judges.features.words import Words, split

Columns = dict[str, np.ndarray]
"""Named float64 columns, one value a row."""

_TEXT: Final = pl.col("text")
_LOWERED: Final = pl.col("lowered")
_END: Final = _LOWERED.str.tail(200)
_LINES: Final = _TEXT.str.split("\n")
_BLANK_LINES: Final = _LINES.list.count_matches("").cast(pl.Int64)


def _matches(text: pl.Expr, patterns: dict[str, str]) -> dict[str, pl.Expr]:
    return {
        name: text.str.count_matches(pattern.replace(r"\b", properties.BORDER)) for name, pattern in patterns.items()
    }


_COMMON: Final = {
    "chars": _TEXT.str.len_chars(),
    "bytes": _TEXT.str.len_bytes(),
    "empty": _TEXT.str.contains(r"^\s*$"),
}
_ANSWER: Final = {
    **_COMMON,
    "code_chars": _TEXT.str.extract_all(r"(?s)```.*?(?:```|\z)").list.join("").str.len_chars(),
    "lines": _LINES.list.len().cast(pl.Int64) - 1,
    "repeated_lines": (
        _LINES.list.len().cast(pl.Int64) - _LINES.list.n_unique().cast(pl.Int64) - (_BLANK_LINES - 1).clip(0)
    ),
    **_matches(_TEXT, properties.AS_WRITTEN),
    **_matches(_LOWERED, properties.LOWERED),
    **_matches(_END, properties.AT_END),
}
_PROMPT: Final = {**_COMMON, **_matches(_LOWERED, properties.ASKED)}


@dataclass(frozen=True)
class Measured:
    """What is known of every comparison before its answers are set against each other.

    Attributes:
        prompt: Counts in the prompt, over all turns.
        a: Counts in answer A, over all turns; names that start with `last_` are the last turn alone.
        b: The same for answer B.
        shared: What the texts have in common.
        tokens: The words and signs of answer A and of answer B.
    """

    prompt: Columns
    a: Columns
    b: Columns
    shared: Columns
    tokens: tuple[Words, Words]


def measure(table: pl.DataFrame) -> Measured:
    """Count everything in the texts of a validated table."""
    turns = table["prompt"].list.len().to_numpy().astype(np.int64)
    asked, first, second = (_flat(table[name]) for name in ("prompt", "response_a", "response_b"))
    prompt = _by_row(_counts(asked, _PROMPT), turns)
    a, b = (_by_row(_counts(answer, _ANSWER), turns) for answer in (first, second))
    tokens, words = zip(*(split(texts["lowered"], turns) for texts in (asked, first, second)), strict=True)
    pairs = [own.runs(2) for own in words]
    for columns, own in zip((prompt, a, b), words, strict=True):
        columns.update(words=own.counts, distinct_words=own.distinct)
    for columns, own in zip((a, b), words[1:], strict=True):
        runs = own.runs(3)
        columns["repeated_runs"] = runs.counts - runs.distinct
    shared = {
        "turns": turns.astype(np.float64),
        **_alike(first["text"], second["text"], turns),
        **_overlaps(words, pairs),
    }
    return Measured(prompt, a, b, shared, (tokens[1], tokens[2]))


def _flat(column: pl.Series) -> pl.DataFrame:
    """All turns below one another, as written and lower-cased; a missing turn is an empty text."""
    texts = column.explode().fill_null("").alias("text").to_frame()
    return texts.with_columns(lowered=_TEXT.str.to_lowercase())


def _counts(texts: pl.DataFrame, expressions: dict[str, pl.Expr]) -> Columns:
    frame = texts.select(expression.cast(pl.Float64).alias(name) for name, expression in expressions.items())
    return {name: frame[name].to_numpy() for name in frame.columns}


def _by_row(counts: Columns, turns: np.ndarray) -> Columns:
    ends = np.cumsum(turns)
    total = {name: np.add.reduceat(column, ends - turns) for name, column in counts.items()}
    return total | {f"last_{name}": column[ends - 1] for name, column in counts.items()}


def _alike(first: pl.Series, second: pl.Series, turns: np.ndarray) -> Columns:
    """Whether the answers are the same text, or begin alike, in every turn."""
    starts = np.cumsum(turns) - turns
    equal = {"same": first == second, "same_start": first.str.head(24) == second.str.head(24)}
    return {name: np.logical_and.reduceat(turn.to_numpy(), starts).astype(np.float64) for name, turn in equal.items()}


def _overlaps(words: Sequence[Words], pairs: Sequence[Words]) -> Columns:
    """How many different words, and pairs of neighbours, two texts have in common."""
    asked, a, b = words
    asked_pairs, a_pairs, b_pairs = pairs
    return {
        "a_b_words": a.in_common(b),
        "a_b_pairs": a_pairs.in_common(b_pairs),
        "a_pairs": a_pairs.distinct,
        "b_pairs": b_pairs.distinct,
        "p_a_words": asked.in_common(a),
        "p_b_words": asked.in_common(b),
        "p_a_pairs": asked_pairs.in_common(a_pairs),
        "p_b_pairs": asked_pairs.in_common(b_pairs),
    }
