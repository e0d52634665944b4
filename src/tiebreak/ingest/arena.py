"""LMArena battles: two conversations as lists of messages, and a `winner`."""

from __future__ import annotations

from typing import Final

from tiebreak.ingest import conversation, rows
from tiebreak.ingest.options import Options
from tiebreak.ingest.rows import Marks, Plan, Record, Row, Sample

NAME: Final = "arena"
CONVERSATIONS: Final = ("conversation_a", "conversation_b")

_IDS: Final = ("id", "question_id", "conversation_id", "battle_id")


def missing(columns: tuple[str, ...]) -> list[str]:
    """The columns that the file would still need."""
    return [name for name in CONVERSATIONS if name not in columns]


def misfit(sample: Sample) -> str:
    """Why a file is not of this format; empty when it is."""
    lacking = missing(sample.columns)
    return f"{', '.join(lacking)} missing" if lacking else ""


def plan(sample: Sample, options: Options) -> Plan:
    """How to read the rows of this file; columns may have other names (`options.mapping`)."""
    columns = rows.carried_columns(sample, options, ("model_a", "model_b", "source"))
    identifiers = [name for name in _IDS if name in sample.columns]
    if identifiers and "id" not in columns:
        columns["id"] = identifiers[0]
    first, second = (options.mapping.get(name, name) for name in CONVERSATIONS)
    winner = options.mapping.get("label", "winner")

    def convert(record: Record, marks: Marks) -> Row:
        prompts_a, answers_a = conversation.turns(conversation.messages(record.get(first), first, marks), marks)
        prompts_b, answers_b = conversation.turns(conversation.messages(record.get(second), second, marks), marks)
        label = rows.label_of(record.get(winner), options, marks)
        prompts = conversation.common(prompts_a, prompts_b)
        return Row(prompts, answers_a, answers_b, label, **rows.carried(record, columns))

    return Plan(convert, frozenset((first, second, winner, *columns.values())))
