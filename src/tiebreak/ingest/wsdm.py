"""Kaggle "WSDM Cup - Multilingual Chatbot Arena": plain texts, one `winner` column; the test file has none."""

from __future__ import annotations

from typing import Final

from tiebreak.comparisons import TEXTS
from tiebreak.ingest import rows
from tiebreak.ingest.kaggle import WINNERS
from tiebreak.ingest.options import Options
from tiebreak.ingest.rows import Marks, Plan, Record, Row, Sample

NAME: Final = "wsdm"


missing = rows.missing_texts


def misfit(sample: Sample) -> str:
    """Why a file is not of this format; empty when it is."""
    lacking = missing(sample.columns)
    if lacking:
        return f"{', '.join(lacking)} missing"
    if "winner" in sample.columns:
        return ""
    if "label" in sample.columns or any(name in sample.columns for name in WINNERS):
        return "winner missing, and it has other label columns"
    return "winner missing, and its cells are lists" if sample.holds_lists("prompt") else ""


def plan(sample: Sample, options: Options) -> Plan:
    """How to read the rows of this file."""
    columns = rows.carried_columns(sample, options, ("id", "model_a", "model_b", "source"))

    def convert(record: Record, marks: Marks) -> Row:
        prompt, response_a, response_b = (rows.text_cell(record, name) for name in TEXTS)
        label = rows.label_of(record.get("winner"), options, marks)
        return Row(prompt, response_a, response_b, label, **rows.carried(record, columns))

    return Plan(convert, frozenset((*TEXTS, "winner", *columns.values())))
