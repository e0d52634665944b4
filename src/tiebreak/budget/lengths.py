"""How long comparisons are, in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Self

import numpy as np
import polars as pl

from tiebreak.comparisons import TEXTS
from tiebreak.errors import UsageError

SPREAD: Final = 0.97
"""Standard deviation of the logarithm of a comparison's length; of 1,000 votes of the LMSYS competition."""

FRAME: Final = 60
"""Tokens of a template around the texts, about."""

CHARS: Final = 4.6
"""Characters of a token where no tokenizer is at hand: of the same votes, in Llama 3's tokens."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of comparisons before anything is cut.

    Attributes:
        tokens: float64, a few or a thousand typical ones.
        rows: How many comparisons they stand for.
        source: Where they come from, in words.
    """

    tokens: np.ndarray
    rows: int
    source: str

    @classmethod
    def around(cls, mean: float, rows: int) -> Self:
        """As human votes are: log-normal about a mean.

        Raises:
            UsageError: A number is not positive.
        """
        if mean <= 0 or rows < 1:
            raise UsageError(f"{rows} rows of {mean:g} tokens", expected="numbers above 0")
        normal = NormalDist(0, SPREAD)
        shape = np.exp([normal.inv_cdf((i + 0.5) / 1000) for i in range(1000)])
        return cls(shape * (mean / shape.mean()), rows, f"log-normal about a mean of {mean:g} tokens")

    @classmethod
    def of(cls, votes: pl.DataFrame, tokenizer: Any | None = None, *, rows: int | None = None) -> Self:
        """Of a table of comparisons.

        Args:
            votes: Validated.
            tokenizer: Of the model; None reckons with `CHARS` characters a token.
            rows: How many it stands for; None: its own.
        """
        texts = votes.select(pl.concat_list(TEXTS).list.join("\n", ignore_nulls=True)).to_series()
        if tokenizer is None:
            tokens = texts.str.len_chars().to_numpy() / CHARS
            source = f"the votes, at {CHARS} characters a token"
        else:
            encoded = tokenizer(texts.to_list(), add_special_tokens=False)["input_ids"] if len(texts) else []
            tokens, source = np.array([len(ids) for ids in encoded], dtype=np.float64), "the votes, in its own tokens"
        if not len(tokens):
            raise UsageError("no votes to measure lengths on", expected="at least one row")
        return cls(tokens.astype(np.float64) + FRAME, rows or len(tokens), source)

    def cut(self, max_length: int) -> np.ndarray:
        """The lengths with what is over a limit cut off."""
        return np.asarray(np.minimum(self.tokens, max_length))

    def share_cut(self, max_length: int) -> float:
        """Of the rows, that a limit cuts."""
        return float((self.tokens > max_length).mean())
