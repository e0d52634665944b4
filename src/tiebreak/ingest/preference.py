"""Chosen and rejected answers: hh-rlhf transcripts, UltraFeedback-like message lists with ratings, plain texts.

Which of the two answers becomes A is a hash of the seed and the texts. It does not look at which of them was chosen,
so the side carries no hint, and the same pair lies the same way in every file.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from tiebreak.comparisons import SOFT
from tiebreak.errors import UsageError
from tiebreak.ingest import conversation, rows
from tiebreak.ingest.conversation import Message
from tiebreak.ingest.options import Options
from tiebreak.ingest.rows import BadRow, Marks, Plan, Record, Row, Sample, Turns

NAME: Final = "preference"
SIDE_B: Final = "chosen answer put on side b by the seeded hash"
CONTRADICTION: Final = "rejected answer has the higher rating: the names chosen and rejected were followed"

_MESSAGES: Final = re.compile(r"""\s*\[\s*\{\s*['"](?:role|content|from|value)['"]""")
_TRANSCRIPT: Final = "\n\nHuman:"
_SIDED: Final = ("response_a", "response_b", "label", "rating_a", "rating_b", "model_a", "model_b", *SOFT)
_OTHER_NAMES: Final = {
    "id": ("prompt_id", "question_id"),
    "rating_chosen": ("score_chosen", "chosen-rating", "chosen_rating", "chosen_score"),
    "rating_rejected": ("score_rejected", "rejected-rating", "rejected_rating", "rejected_score"),
    "model_chosen": ("chosen-model", "chosen_model"),
    "model_rejected": ("rejected-model", "rejected_model"),
}


def missing(columns: tuple[str, ...]) -> list[str]:
    """The columns that the file would still need."""
    return [name for name in ("chosen", "rejected") if name not in columns]


def misfit(sample: Sample) -> str:
    """Why a file is not of this format; empty when it is."""
    lacking = missing(sample.columns)
    return f"{', '.join(lacking)} missing" if lacking else ""


def plan(sample: Sample, options: Options) -> Plan:
    """How to read the rows of this file; columns may have other names (`options.mapping`).

    Raises:
        UsageError: A column is mapped that speaks of the sides a and b, which are not drawn yet.
    """
    sided = [ours for ours in options.mapping if ours in _SIDED]
    if sided:
        raise UsageError(
            f"--map {sided[0]}=... goes with two answers a and b, not with chosen and rejected",
            expected="prompt, chosen, rejected, rating_chosen, rating_rejected, model_chosen, model_rejected",
        )
    where: dict[str, str] = {}
    for ours in ("prompt", "chosen", "rejected", *_OTHER_NAMES):
        names = (options.mapping.get(ours, ours), *_OTHER_NAMES.get(ours, ()))
        present = [name for name in names if name in sample.columns]
        if present:
            where[ours] = present[0]
    columns = rows.carried_columns(sample, options, ("source",)) | ({"id": where["id"]} if "id" in where else {})

    def convert(record: Record, marks: Marks) -> Row:
        prompt = record.get(where["prompt"]) if "prompt" in where else None
        pair = [_side(prompt, record.get(where[name]), where[name], marks) for name in ("chosen", "rejected")]
        prompts = conversation.common(pair[0][0], pair[1][0])
        models = [record.get(where.get(name, name)) for name in ("model_chosen", "model_rejected")]
        chosen_first = _chosen_first(options.seed, prompts, pair[0][1], pair[1][1])
        a, b = (0, 1) if chosen_first else (1, 0)
        if not chosen_first:
            marks.append(SIDE_B)
        return Row(
            prompts, pair[a][1], pair[b][1], _label(record, where, chosen_first, marks),
            model_a=models[a], model_b=models[b], **rows.carried(record, columns),
        )  # fmt: skip

    return Plan(convert, frozenset((*where.values(), *columns.values())))


def _label(record: Record, where: dict[str, str], chosen_first: bool, marks: Marks) -> str:
    chosen, rejected = (rows.number(record, where.get(name)) for name in ("rating_chosen", "rating_rejected"))
    if chosen is not None and rejected is not None:
        if chosen == rejected:
            marks.append(rows.EQUAL_RATINGS)
            return "tie"
        if chosen < rejected:
            marks.append(CONTRADICTION)
    return "a" if chosen_first else "b"


def _side(prompt: Any, answer: Any, column: str, marks: Marks) -> tuple[Turns, Turns]:
    """Prompts and answers of one side: the prompt column in front, unless the answer column is a whole conversation."""
    if answer is None:
        raise BadRow(f"{column} is missing")
    said = _messages(answer, column, marks, role="assistant", alone=prompt is None)
    if not any(role == "user" for role, _ in said):
        if prompt is None:
            raise BadRow(f"{column} holds no prompt, and there is no prompt column; map one: --map prompt=YOUR_COLUMN")
        said = _messages(prompt, "prompt", marks, role="user", alone=False) + said
    return conversation.turns(_unfinished(said), marks)


def _messages(value: Any, column: str, marks: Marks, *, role: str, alone: bool) -> list[Message]:
    """The messages of a cell; a text that is neither messages nor a transcript is one message of the role given.

    Beside a prompt column, an answer may well begin with the word "Assistant:"; it is a transcript only when it begins
    as those do.
    """
    if not isinstance(value, str) or _MESSAGES.match(value):
        return conversation.messages(value, column, marks)
    found = conversation.transcript(value) if alone or value.startswith(_TRANSCRIPT) else None
    return [(role, value)] if found is None else found


def _unfinished(said: list[Message]) -> list[Message]:
    """Without the empty last message of a prompt that ends in "Assistant:", where the answer itself follows it."""
    return [
        message for i, message in enumerate(said)
        if message != ("assistant", "") or i + 1 >= len(said) or said[i + 1][0] != "assistant"
    ]  # fmt: skip


def _chosen_first(seed: int, prompts: Turns, chosen: Turns, rejected: Turns) -> bool:
    first, second = json.dumps(chosen), json.dumps(rejected)
    text = "\0".join((str(seed), json.dumps(prompts), *sorted((first, second))))
    bit = hashlib.blake2b(text.encode(), digest_size=1).digest()[0] & 1 == 0
    return bit == (first <= second)
