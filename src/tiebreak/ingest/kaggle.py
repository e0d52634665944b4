"""Kaggle "LMSYS - Chatbot Arena Human Preference": JSON lists in cells, three winner columns; the test file has none.

The same columns in parquet, and cells of plain text in place of JSON lists (one turn each), are read too.
"""

from __future__ import annotations

from typing import Final

from tiebreak.comparisons import TEXTS
from tiebreak.ingest import rows
from tiebreak.ingest.options import Options
from tiebreak.ingest.rows import BadRow, Marks, Plan, Record, Row, Sample

NAME: Final = "kaggle"
WINNERS: Final = ("winner_model_a", "winner_model_b", "winner_tie")

_LABELS: Final = dict(zip(WINNERS, ("a", "b", "tie"), strict=True))


def missing(columns: tuple[str, ...]) -> list[str]:
    """The columns that the file would still need: all three winner columns, or none of them."""
    some = any(name in columns for name in WINNERS)
    return [name for name in TEXTS + (WINNERS if some else ()) if name not in columns]


def misfit(sample: Sample) -> str:
    """Why a file is not of this format; empty when it is."""
    lacking = missing(sample.columns)
    if lacking:
        return f"{', '.join(lacking)} missing"
    if WINNERS[0] in sample.columns:
        return ""
    if "winner" in sample.columns or "label" in sample.columns:
        return "it has other label columns"
    texts = any(isinstance(record.get("prompt"), str) for record in sample.records)
    return "" if texts and sample.holds_lists("prompt") else "its cells are not JSON lists"


def plan(sample: Sample, options: Options) -> Plan:
    """How to read the rows of this file."""
    columns = rows.carried_columns(sample, options, ("id", "model_a", "model_b", "source"))
    cells = {name: rows.list_cell if sample.holds_lists(name) else rows.text_cell for name in TEXTS}
    plain = rows.text_cell in cells.values()
    labelled = WINNERS[0] in sample.columns

    def convert(record: Record, marks: Marks) -> Row:
        if plain:
            marks.append(rows.PLAIN)
        prompt, response_a, response_b = (cells[name](record, name) for name in TEXTS)
        label = _label(record) if labelled else None
        return Row(prompt, response_a, response_b, label, **rows.carried(record, columns))

    return Plan(convert, frozenset((*TEXTS, *(WINNERS if labelled else ()), *columns.values())))


def _label(record: Record) -> str | None:
    values = [rows.number(record, name) for name in WINNERS]
    if values == [None, None, None]:
        return None
    if sorted(value or 0.0 for value in values) != [0.0, 0.0, 1.0]:
        given = ", ".join(f"{name} {rows.shown(record.get(name))}" for name in WINNERS)
        raise BadRow(f"exactly one winner column must be 1 and the others 0, not {given}")
    return _LABELS[WINNERS[values.index(1.0)]]
