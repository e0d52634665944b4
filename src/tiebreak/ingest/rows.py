"""One row on its way into the table: what a format makes of a record, and the checks that all formats share."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tiebreak.comparisons import SOFT, TEXTS
from tiebreak.ingest.options import Options

Record = Mapping[str, Any]
Turns = list[str | None]
Marks = list[str]
"""What was done to one row, for the notes of the report; counted only once the row is accepted."""

PLAIN: Final = "plain text taken as one turn"
NULL_TURNS: Final = "null turns kept"
BOTH_BAD_TIE: Final = "both answers called bad: counted as a tie"
BOTH_BAD_OUT: Final = "both answers called bad: left out"
EQUAL_RATINGS: Final = "equal ratings: counted as a tie"

LABEL_WORDS: Final = {
    "a": "a", "model_a": "a", "response_a": "a", "answer_a": "a", "left": "a",
    "b": "b", "model_b": "b", "response_b": "b", "answer_b": "b", "right": "b",
    "tie": "tie", "draw": "tie", "equal": "tie",
}  # fmt: skip
BOTH_BAD_WORDS: Final = ("tie (bothbad)", "bothbad", "both_bad", "both bad")

_NUMBERS: Final = (*SOFT, "weight", "fold")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class BadRow(Exception):  # noqa: N818 - not an error of the program: it is how a format refuses one row
    """The row cannot be read; the message is the reason, for the user."""


class LeftOut(Exception):  # noqa: N818
    """The row is well but a policy leaves it out; the message is the note."""


class Row(NamedTuple):
    """One comparison as a format delivers it: turns not yet padded, texts not yet checked for lone surrogates."""

    prompt: Turns
    response_a: Turns
    response_b: Turns
    label: str | None
    id: Any = None
    model_a: Any = None
    model_b: Any = None
    p_a: float | None = None
    p_b: float | None = None
    p_tie: float | None = None
    weight: float | None = None
    group: Any = None
    fold: int | None = None
    source: Any = None


@dataclass(frozen=True)
class Sample:
    """The beginning of a file, by which its format is recognised.

    Attributes:
        columns: Names of all columns or keys seen, in order.
        records: The first records.
    """

    columns: tuple[str, ...]
    records: list[Record]

    def holds_lists(self, column: str) -> bool:
        """Whether half the cells of a column or more are lists of texts, or JSON of them."""
        cells = [value for record in self.records if (value := record.get(column)) is not None]
        return bool(cells) and 2 * sum(as_list(cell) is not None for cell in cells) >= len(cells)


@dataclass(frozen=True)
class Plan:
    """How to read the rows of one file.

    Attributes:
        convert: Turns a record into a row, or raises `BadRow` or `LeftOut`.
        used: The columns it looks at.
    """

    convert: Callable[[Record, Marks], Row]
    used: frozenset[str]


def missing_texts(columns: tuple[str, ...]) -> list[str]:
    """The text columns that a file would still need."""
    return [name for name in TEXTS if name not in columns]


def as_list(value: Any) -> Turns | None:
    """The list of texts (or nulls) that a cell holds, itself or as JSON; None when it holds something else."""
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list) and all(item is None or isinstance(item, str) for item in value):
        return value
    return None


def list_cell(record: Record, column: str) -> Turns:
    """The turns in a cell that must be a list of texts; none at all where there is no cell."""
    value = record.get(column)
    if value is None:
        return []
    turns = as_list(value)
    if turns is None:
        raise BadRow(f"{column} is not a list of texts but {shown(value)}")
    return turns


def text_cell(record: Record, column: str) -> Turns:
    """A cell that holds one turn as plain text; no turn where there is no cell."""
    value = record.get(column)
    if value is None:
        return []
    if not isinstance(value, str):
        raise BadRow(f"{column} is not a text but {shown(value)}")
    return [value]


def label_of(value: Any, options: Options, marks: Marks) -> str | None:
    """The label that a word stands for; empty means unlabelled, an unknown word is refused."""
    word = (as_text(value) or "").strip()
    if not word:
        return None
    if word in options.labels:
        return options.labels[word]
    word = word.lower()
    if word in LABEL_WORDS:
        return LABEL_WORDS[word]
    if word in BOTH_BAD_WORDS:
        if options.both_bad == "drop":
            raise LeftOut(BOTH_BAD_OUT)
        marks.append(BOTH_BAD_TIE)
        return "tie"
    accepted = ", ".join((*LABEL_WORDS, *BOTH_BAD_WORDS))
    raise BadRow(f"unknown label {shown(value)}; accepted are {accepted}, or name yours: --label {shown(word)}=a")


def by_rating(first: float | None, second: float | None, marks: Marks) -> str | None:
    """The label that two ratings stand for."""
    if first is None or second is None:
        return None
    if first == second:
        marks.append(EQUAL_RATINGS)
        return "tie"
    return "a" if first > second else "b"


def number(record: Record, column: str | None) -> float | None:
    """A finite number, or None where there is none."""
    value = None if column is None else record.get(column)
    if value is None or value == "":
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise BadRow(f"{column} is not a finite number but {shown(value)}")
    return result


def carried(record: Record, columns: Mapping[str, str]) -> dict[str, Any]:
    """The columns of `CARRIED` that this file has, for `Row(**...)`."""
    values: dict[str, Any] = {}
    for ours, theirs in columns.items():
        values[ours] = number(record, theirs) if ours in _NUMBERS else record.get(theirs)
    weight, fold = values.get("weight"), values.get("fold")
    if weight is not None and weight < 0:
        raise BadRow(f"{columns['weight']} is a negative weight: {weight:g}")
    if fold is not None:
        if not (fold.is_integer() and abs(fold) < 2**53):
            raise BadRow(f"{columns['fold']} is not a whole number: {fold:g}")
        values["fold"] = int(fold)
    return values


def carried_columns(sample: Sample, options: Options, names: tuple[str, ...]) -> dict[str, str]:
    """Where the carried columns of this file are: as mapped, or under the names given here."""
    found = {name: name for name in names if name in sample.columns}
    return found | {ours: theirs for ours, theirs in options.mapping.items() if ours in Row._fields[4:]}


def as_text(value: Any) -> str | None:
    """An id, a name or a label as text: 7 and 7.0 are "7"; empty and not-a-number are nothing."""
    if isinstance(value, str):
        return value or None
    if value is None or value != value:
        return None
    if isinstance(value, list | dict):
        raise BadRow(f"a text or a number was expected, not {shown(value)}")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value)


def without_surrogates(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD; the very same object where there is none."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", text)
    return text


def shown(value: Any) -> str:
    """A value in a message: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}... ({len(text):,} characters)"
