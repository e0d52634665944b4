"""What a run tells while it goes on. The library prints nothing; who wants to hear gives functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from tiebreak import predictions


def _silent(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Progress:
    """Functions that a run calls.

    Attributes:
        advance: With the number of rows after each finished chunk.
        taken: With the rows of a chunk that an interrupted run had finished; None: `advance` hears of these too.
        tokens: With the tokens of text that the judge read in a chunk, where it counts them.
        total: With the number of rows of the whole input, as soon as it is known.
        note: With a sentence that a person should read, such as that a worker died.
    """

    advance: Callable[[int], None] = _silent
    taken: Callable[[int], None] | None = None
    tokens: Callable[[int], None] = _silent
    total: Callable[[int], None] = _silent
    note: Callable[[str], None] = _silent

    def chunk(self, table: pl.DataFrame, *, judged: bool = True) -> None:
        """Tell of one finished chunk."""
        if judged:
            self.tokens(tokens(table, "kept"))
            self.advance(table.height)
        else:
            self.reuse(table.height)

    def reuse(self, rows: int) -> None:
        """Tell of rows taken over from an interrupted run: they say nothing about the speed of this one."""
        (self.taken or self.advance)(rows)


SILENT: Final = Progress()


def tokens(table: pl.DataFrame, which: str) -> int:
    """Tokens of text in a prediction table: all there were (`tokens`), or those the judge saw (`kept`); 0 if uncounted.

    Args:
        table: Predictions.
        which: `tokens` or `kept`.
    """
    columns = [name for name in predictions.LEDGER if name.startswith(which) and name in table.columns]
    return int(table.select(pl.sum_horizontal(pl.col(columns).sum())).item() or 0) if columns else 0
