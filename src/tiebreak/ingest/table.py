"""Rows into tables of bounded size: padding, lone surrogates, ids, and the fast way to list columns."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons
from tiebreak.comparisons import SCHEMA, SOFT, TEXTS
from tiebreak.ingest.options import Report
from tiebreak.ingest.rows import NULL_TURNS, BadRow, Marks, Row, Turns, as_text, without_surrogates

SURROGATES: Final = "lone surrogates replaced with U+FFFD"
PADDED: Final = "turns padded with null"
MADE_ID: Final = "id missing: made from the row number"

_NAMES: Final = ("id", "model_a", "model_b", "group", "source")
_OTHERS: Final = tuple(name for name in SCHEMA if name not in TEXTS)


class Builder:
    """Collects rows and gives them back as a validated table.

    Args:
        report: Its counts grow with every row.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self._clear()

    def _clear(self) -> None:
        self.rows = 0
        self.characters = 0
        self._texts: dict[str, list[Turns]] = {name: [] for name in TEXTS}
        self._others: dict[str, list[Any]] = {name: [] for name in _OTHERS}

    def add(self, row: Row, marks: Marks, *, number: int, source: str) -> None:
        """Check a row and take it in.

        Raises:
            BadRow: It has no prompt, or a soft label that is none.
        """
        texts = _even_turns(row, marks)
        _check_soft(row)
        values = row._asdict() | {"source": row.source or source}
        for name in _NAMES:
            values[name] = _name(values[name], marks)
        if values["id"] is None:
            values["id"] = str(number)
            marks.append(MADE_ID)
        for name, turns in zip(TEXTS, texts, strict=True):
            self._texts[name].append(turns)
            self.characters += sum(map(len, filter(None, turns)))
        for name in _OTHERS:
            self._others[name].append(values[name])
        self.rows += 1
        self._count(row.label, marks)

    def _count(self, label: str | None, marks: Marks) -> None:
        self.report.rows += 1
        self.report.labels[label or "unlabelled"] += 1
        if marks:
            self.report.notes.update(Counter(set(marks)))

    def build(self, where: str) -> pl.DataFrame:
        """The table of the rows collected; the builder is empty afterwards."""
        columns = {name: pl.Series(values, dtype=SCHEMA[name]) for name, values in self._others.items()}
        table = pl.DataFrame({**columns, **_list_columns(self._texts)})
        self._clear()
        return comparisons.validate(table, where=where)


def _list_columns(texts: dict[str, list[Turns]]) -> dict[str, pl.Series]:
    """List columns by way of flat ones: about twenty times as fast as a series of Python lists.

    It rests on every row having the same number of turns in all the columns, and at least one.
    """
    counts = np.array([len(turns) for turns in texts[TEXTS[0]]], dtype=np.int64)
    flat = pl.DataFrame(
        {"row": np.repeat(np.arange(len(counts)), counts)}
        | {name: pl.Series(list(chain.from_iterable(lists)), dtype=pl.String) for name, lists in texts.items()},
    )
    grouped = flat.group_by("row", maintain_order=True).agg(pl.all())
    return {name: grouped[name] for name in TEXTS}


def _even_turns(row: Row, marks: Marks) -> tuple[Turns, Turns, Turns]:
    """The texts with equal numbers of turns and without lone surrogates."""
    texts = (row.prompt, row.response_a, row.response_b)
    turns = len(row.prompt)
    if turns == 0:
        raise BadRow("prompt has no turn")
    if any(None in text for text in texts):
        marks.append(NULL_TURNS)
    if len(row.response_a) != turns or len(row.response_b) != turns:
        marks.append(PADDED)
        turns = max(map(len, texts))
        texts = tuple(text + [None] * (turns - len(text)) for text in texts)  # type: ignore[assignment]
    cleaned = tuple([text and without_surrogates(text) for text in column] for column in texts)
    if any(old is not new for before, after in zip(texts, cleaned, strict=True)
           for old, new in zip(before, after, strict=True)):  # fmt: skip
        marks.append(SURROGATES)
    return cleaned  # type: ignore[return-value]


def _name(value: Any, marks: Marks) -> str | None:
    text = as_text(value)
    if text is None or text.isascii():
        return text
    cleaned = without_surrogates(text)
    if cleaned is not text:
        marks.append(SURROGATES)
    return cleaned


def _check_soft(row: Row) -> None:
    soft = [getattr(row, name) for name in SOFT]
    if soft == [None, None, None]:
        return
    if None in soft or min(soft) < 0 or abs(sum(soft) - 1) >= 1e-6:
        raise BadRow(f"p_a, p_b, p_tie are not three probabilities with sum 1 but {soft}")
