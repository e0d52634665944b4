"""From a table of comparisons to counts: what stands in each prompt and each answer.

Every number belongs to one row alone: nothing here looks at a neighbour, so an answer does not depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from tiebreak.judges.features import properties
from tiebreak.judges.features.words import Words, common

Columns = dict[str, np.ndarray]
"""Named float64 columns, one value a row."""

_TEXT: Final = pl.col("text")
_COMMON: Final = {
    "chars": _TEXT.str.len_chars(),
    "bytes": _TEXT.str.len_bytes(),
    "empty": _TEXT.str.contains(r"^\s*$"),
}
_LINES: Final = _TEXT.str.extract_all(r"[^\n]{12,}")
_ANSWER: Final = {
    **_COMMON,
    "code_chars": _TEXT.str.extract_all(r"(?s)```.*?(?:```|\z)").list.join("").str.len_chars(),
    "repeated_lines": _LINES.list.len().cast(pl.Int64) - _LINES.list.n_unique().cast(pl.Int64),
    **{name: _TEXT.str.count_matches(pattern) for name, pattern in properties.ANSWER.items()},
}
_PROMPT: Final = {
    **_COMMON,
    **{name: _TEXT.str.count_matches(pattern) for name, pattern in properties.PROMPT.items()},
}


@dataclass(frozen=True)
class Measured:
    """What is known of every comparison before its answers are set against each other.

    Attributes:
        prompt: Counts in the prompt, over all turns.
        a: Counts in answer A, over all turns; names that start with `last_` are the last turn alone.
        b: The same for answer B.
        shared: What the texts have in common.
    """

    prompt: Columns
    a: Columns
    b: Columns
    shared: Columns


def measure(table: pl.DataFrame) -> Measured:
    """Count everything in the texts of a validated table."""
    turns = table["prompt"].list.len().to_numpy().astype(np.int64)
    prompts, first, second = (_flat(table[name]) for name in ("prompt", "response_a", "response_b"))
    answers = _counts(pl.concat([first, second]), _ANSWER)
    prompt = _by_row(_counts(prompts, _PROMPT), turns)
    a = _by_row({name: column[: len(first)] for name, column in answers.items()}, turns)
    b = _by_row({name: column[len(first) :] for name, column in answers.items()}, turns)
    words = [Words.of(texts, turns) for texts in (prompts, first, second)]
    for columns, own in zip((prompt, a, b), words, strict=True):
        columns.update(_vocabulary(own))
    return Measured(prompt, a, b, {"turns": turns.astype(np.float64), **_shared(first, second, turns, *words)})


def _flat(column: pl.Series) -> pl.Series:
    """All turns below one another; a missing turn is an empty text."""
    return column.explode().fill_null("").alias("text")


def _counts(texts: pl.Series, expressions: dict[str, pl.Expr]) -> Columns:
    frame = texts.to_frame().select(expression.cast(pl.Float64).alias(name) for name, expression in expressions.items())
    return {name: frame[name].to_numpy() for name in frame.columns}


def _by_row(counts: Columns, turns: np.ndarray) -> Columns:
    ends = np.cumsum(turns)
    total = {name: np.add.reduceat(column, ends - turns) for name, column in counts.items()}
    return total | {f"last_{name}": column[ends - 1] for name, column in counts.items()}


def _vocabulary(words: Words) -> Columns:
    runs = words.runs(3)
    return {
        "words": words.counts(),
        "distinct_words": words.bag_counts(words.bag()),
        "repeated_runs": runs.counts() - runs.bag_counts(runs.bag()),
    }


def _shared(first: pl.Series, second: pl.Series, turns: np.ndarray, *words: Words) -> Columns:
    counts = words[0].bag_counts
    bags = [own.bag() for own in words]
    pairs = [own.runs(2).bag() for own in words]
    starts = np.cumsum(turns) - turns
    begins_alike = first.str.head(24) == second.str.head(24)
    return {
        "same": np.logical_and.reduceat((first == second).to_numpy(), starts).astype(np.float64),
        "same_start": np.logical_and.reduceat(begins_alike.to_numpy(), starts).astype(np.float64),
        "a_b_words": counts(common(bags[1], bags[2])),
        "a_b_pairs": counts(common(pairs[1], pairs[2])),
        "a_pairs": counts(pairs[1]),
        "b_pairs": counts(pairs[2]),
        "p_a_words": counts(common(bags[0], bags[1])),
        "p_b_words": counts(common(bags[0], bags[2])),
        "p_a_pairs": counts(common(pairs[0], pairs[1])),
        "p_b_pairs": counts(common(pairs[0], pairs[2])),
    }
