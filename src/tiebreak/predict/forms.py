"""The forms of submissions: which columns a competition wants, and what each of them holds.

A sample submission says it by its header: LMSYS has three columns of probabilities, WSDM one column with the winner.
Names that nobody can guess are explained column by column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, Self, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tiebreak.errors import DataError, UsageError

Content = Literal["p_a", "p_b", "p_tie", "p_a_without_tie", "p_b_without_tie", "winner", "winner_without_tie"]
"""What a column of a submission may hold. Without tie: its mass is shared out to both sides in equal halves."""

CONTENTS: Final[tuple[str, ...]] = get_args(Content)
LABELS: Final = {"a": "model_a", "b": "model_b", "tie": "tie"}
ID: Final = "id"


class Submission(BaseModel):
    """The form of a submission.

    Attributes:
        id: The column of the ids.
        columns: The other columns, in order, and what each holds.
        labels: What the classes are called in a `winner` column.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = ID
    columns: dict[str, Content] = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=lambda: dict(LABELS))

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.id in self.columns:
            raise ValueError(f"the column of the ids, {self.id!r}, cannot hold {self.columns[self.id]} too")
        if self.labels.keys() != LABELS.keys() or len(set(self.labels.values())) < len(LABELS):
            raise ValueError(f"labels are three different words, for a, b and tie, not {self.labels}")
        return self

    @property
    def header(self) -> list[str]:
        """The columns of the file, ids first."""
        return [self.id, *self.columns]

    def notes(self) -> list[str]:
        """What a person should know who expects three classes: where the mass of the ties goes."""
        held, found = set(self.columns.values()), []
        if held & {"p_a_without_tie", "p_b_without_tie"}:
            found.append("no column for ties: half of P(tie) goes to each side")
        if "winner_without_tie" in held:
            found.append(
                "one winner a row and no ties: half of P(tie) goes to each side, the larger one wins; an exact "
                f"toss-up is called {self.labels['a']}"
            )
        return found


LMSYS: Final = Submission(columns={"winner_model_a": "p_a", "winner_model_b": "p_b", "winner_tie": "p_tie"})
"""The form without a sample: "LMSYS - Chatbot Arena Human Preference Predictions" and its open-ended successor."""

_SIDES: Final = {
    "a": "a", "left": "a", "first": "a", "1": "a",
    "b": "b", "right": "b", "second": "b", "2": "b",
    "tie": "tie", "ties": "tie", "tied": "tie", "draw": "tie", "equal": "tie",
}  # fmt: skip
_SIDE_OF: Final = {"p_a": "a", "p_b": "b", "p_tie": "tie", "p_a_without_tie": "a", "p_b_without_tie": "b"}
_FILLERS: Final = frozenset({
    "p", "prob", "probs", "proba", "probability", "pred", "prediction", "predicted", "score", "winner", "win",
    "wins", "winning", "won", "model", "response", "answer", "assistant", "side", "label", "class", "target",
    "preferred", "preference", "chosen", "better", "of", "is",
})  # fmt: skip
_CHOICES: Final = frozenset({
    "winner", "label", "preference", "preferred", "verdict", "choice", "target", "prediction", "pred",
    "class",
})  # fmt: skip


def recognise(sample: Path, given: Mapping[str, str] | None = None) -> Submission:
    """The form of a submission, from a sample submission and what somebody says of its columns.

    Args:
        sample: A CSV with the header, and some rows, that the competition wants.
        given: Column -> what it holds: one of `CONTENTS`, or `id`. The words of a winner column may follow:
            `winner_without_tie:left,right`, or `winner:A,B,same`.

    Raises:
        DataError: The file cannot be read, lacks a column that was spoken of, or has one that says nothing.
        UsageError: What a column should hold is none of `CONTENTS`.
    """
    given = given or {}
    frame = read(sample)
    absent = [name for name in given if name not in frame.columns]
    if absent:
        raise DataError(
            f"{sample}: no column {', '.join(absent)}; it has {', '.join(frame.columns)}",
            expected="columns of the sample submission in --column NAME=CONTENT",
        )
    told = {name: _parse(name, content) for name, content in given.items()}
    id_column = next((name for name, (content, _) in told.items() if content == ID), None)
    named = {name: side_of(name) for name in frame.columns if name not in told}
    id_column = id_column or _id_among([name for name, side in named.items() if side is None])
    rest = [name for name in named if name != id_column]
    contents: dict[str, str] = {name: content for name, (content, _) in told.items() if content != ID}
    words = next((words for _, words in told.values() if words), dict(LABELS))
    sides = [_SIDE_OF.get(content, "") for content in contents.values()] + [named[name] or "" for name in rest]
    if sorted(sides) in (["a", "b", "tie"], ["a", "b"]):
        without = "" if "tie" in sides else "_without_tie"
        contents |= {name: f"p_{named[name]}{without}" for name in rest}
    elif len(rest) == 1 and not contents and (found := _choice(rest[0], frame[rest[0]])):
        contents[rest[0]], words = found
    elif rest or not contents:
        raise _unknown(sample, frame.columns, rest)
    if id_column is None:
        raise _unknown(sample, frame.columns, [])
    return _made(id_column, {name: contents[name] for name in frame.columns if name in contents}, words)


def spelled(given: Mapping[str, str]) -> Submission:
    """The form of a submission of which there is no sample: its columns as given, ids in `id` if nobody says else.

    Raises:
        UsageError: What a column should hold is none of `CONTENTS`, or no column but that of the ids is named.
    """
    told = {name: _parse(name, content) for name, content in given.items()}
    id_column = next((name for name, (content, _) in told.items() if content == ID), ID)
    words = next((words for _, words in told.values() if words), dict(LABELS))
    return _made(id_column, {name: content for name, (content, _) in told.items() if content != ID}, words)


def side_of(name: str) -> str | None:
    """`a`, `b` or `tie`, where the name of a column says so: winner_model_a, probA, p_left, is_tie; else None."""
    words = _words(name)
    telling = [word for word in words if word not in _FILLERS]
    return _SIDES.get(telling[0]) if len(telling) == 1 else None


def read(path: Path) -> pl.DataFrame:
    """A CSV, all its cells as text.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}", expected="a CSV with a column of ids and those to be predicted"
        ) from error


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def _id_among(names: list[str]) -> str | None:
    telling = [name for name in names if _words(name)[-1:] in ([ID], ["ids"], ["index"], ["key"])]
    if ID in names:
        return ID
    return telling[0] if telling else names[0] if len(names) == 1 and not _is_choice(names[0]) else None


def _is_choice(name: str) -> bool:
    return bool(_words(name)) and set(_words(name)) <= _CHOICES


def _choice(name: str, values: pl.Series) -> tuple[str, dict[str, str]] | None:
    """What a column of winners holds and how it calls them, if its values are words for a, b or tie."""
    spoken = {value: side_of(value) for value in values.drop_nulls().unique().sort().to_list()}
    # 1 and 2 may be the second and third class as well as the first and second.
    clear = None not in spoken.values() and not any(value.isdecimal() for value in spoken)
    if not (_is_choice(name) and clear and len(set(spoken.values())) == len(spoken)):
        return None
    words = {side: value for value, side in spoken.items() if side}
    return "winner" if "tie" in words else "winner_without_tie", _completed(words)


def _completed(words: dict[str, str]) -> dict[str, str]:
    """The words for all three, where the sample shows some: `A` alone makes B its rival."""
    for one, other in (("a", "b"), ("b", "a")):
        if one in words and other not in words:
            opposite = {"left": "right", "first": "second"} | {"right": "left", "second": "first"} | {one: other}
            ending = re.search(r"(?i)left|right|first|second|[ab]$", words[one])
            if ending is not None:
                new = opposite[ending[0].lower()]
                new = new.upper() if ending[0].isupper() else new.capitalize() if ending[0][0].isupper() else new
                words = words | {other: words[one][: ending.start()] + new + words[one][ending.end() :]}
    return LABELS | words


def _parse(name: str, text: str) -> tuple[str, dict[str, str]]:
    content, _, listed = text.partition(":")
    if content not in (ID, *CONTENTS):
        raise UsageError(f"--column {name}={text}", expected=_accepted())
    if not listed:
        return content, {}
    words = dict(zip(LABELS, (word.strip() for word in listed.split(",")), strict=False))
    wanted = {"winner": 3, "winner_without_tie": 2}.get(content, 0)
    if len(listed.split(",")) != wanted or not all(words.values()):
        raise UsageError(
            f"--column {name}={text}",
            expected=f"{name}=winner:A,B,TIE or {name}=winner_without_tie:A,B with the words for the winners",
        )
    return content, LABELS | words


def _made(id_column: str, contents: Mapping[str, str], words: dict[str, str]) -> Submission:
    try:
        return Submission.model_validate({"id": id_column, "columns": contents, "labels": words})
    except ValueError as error:
        raise UsageError(
            f"--column: {'; '.join(_reasons(error))}", expected="a column of ids, others beside it, different words"
        ) from error


def _reasons(error: ValueError) -> Iterable[str]:
    listed = getattr(error, "errors", None)
    return [str(item["msg"]).removeprefix("Value error, ") for item in listed()] if listed else [str(error)]


def _unknown(sample: Path, columns: list[str], names: list[str]) -> DataError:
    return DataError(
        f"{sample}: columns {', '.join(columns)}: "
        + (f"what {', '.join(names)} should hold is not to be seen" if names else "none of them looks like ids"),
        expected="ids and probabilities of a, b and perhaps tie (winner_model_a, p_b, tie, ...), or ids and the winner "
        "in words (model_a, model_b, ...)",
        mend=f"say it, column by column: --column NAME=CONTENT; {_accepted()}",
    )


def _accepted() -> str:
    return (
        f"one of {', '.join(CONTENTS)} (without tie: half of P(tie) goes to each side), or id; "
        "winner:A,B,TIE names the winners"
    )
