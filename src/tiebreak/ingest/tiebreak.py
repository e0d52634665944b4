"""Our own table as parquet, JSON lines or CSV (lists as JSON in cells); plain texts are one turn."""

from __future__ import annotations

from typing import Final

from tiebreak.comparisons import SOFT, TEXTS
from tiebreak.ingest import rows
from tiebreak.ingest.kaggle import WINNERS
from tiebreak.ingest.options import CARRIED, Options
from tiebreak.ingest.rows import Marks, Plan, Record, Row, Sample

NAME: Final = "tiebreak"


missing = rows.missing_texts


def misfit(sample: Sample) -> str:
    """Why a file is not of this format; empty when it is."""
    lacking = missing(sample.columns)
    if lacking:
        return f"{', '.join(lacking)} missing"
    if "label" in sample.columns:
        return ""
    if "winner" in sample.columns or any(name in sample.columns for name in WINNERS):
        return "label missing, and it has other label columns"
    lists = any(isinstance(record.get("prompt"), list) for record in sample.records)
    return "" if lists else "label missing, and its cells are not lists"


def plan(sample: Sample, options: Options) -> Plan:
    """How to read the rows of this file; columns may have other names (`options.mapping`)."""
    where = {
        name: options.mapping.get(name, name)
        for name in (*TEXTS, "label", *SOFT, "rating_a", "rating_b")
        if options.mapping.get(name, name) in sample.columns
    }
    columns = rows.carried_columns(sample, options, CARRIED)
    columns |= {name: theirs for name, theirs in where.items() if name in SOFT}
    cells = {name: rows.list_cell if sample.holds_lists(where[name]) else rows.text_cell for name in TEXTS}
    plain = rows.text_cell in cells.values()
    rated = "rating_a" in where and "rating_b" in where and "label" not in where

    def label(record: Record, marks: Marks) -> str | None:
        if rated:
            first, second = rows.number(record, where["rating_a"]), rows.number(record, where["rating_b"])
            return rows.by_rating(first, second, marks)
        return rows.label_of(record.get(where["label"]), options, marks) if "label" in where else None

    def convert(record: Record, marks: Marks) -> Row:
        if plain:
            marks.append(rows.PLAIN)
        prompt, response_a, response_b = (cells[name](record, where[name]) for name in TEXTS)
        return Row(prompt, response_a, response_b, label(record, marks), **rows.carried(record, columns))

    return Plan(convert, frozenset((*where.values(), *columns.values())))
