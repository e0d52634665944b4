"""What is wrong with a metadata file, and the rules that say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tiebreak.errors import DataError

Client = Literal["refuses", "ignores", "changes"]
"""What Kaggle's client does with a fault: it stops; it sends the file as if nothing were wrong; it sends another value
than the file says."""

IN_WORDS: Final[dict[Client, str]] = {
    "refuses": "Kaggle's client refuses it",
    "ignores": "Kaggle's client says nothing",
    "changes": "Kaggle's client sends something else",
}

LONGEST: Final = 80
"""Characters of a value that are shown."""

WHOLE: Final = ""
"""The key of a problem that is not about one key."""


@dataclass(frozen=True)
class Problem:
    """One rule that one place of one file breaks.

    Attributes:
        file: The metadata file, from the root of the pack where one is known.
        key: The key, with the number of the entry for a list (`dataset_sources[1]`); "" for the file as a whole.
        value: What stands there; None where nothing does.
        wrong: What is wrong.
        expected: What the rule asks.
        mend: What mends it.
        client: What Kaggle's client does with it.
    """

    file: str
    key: str
    value: object
    wrong: str
    expected: str
    mend: str
    client: Client

    def __str__(self) -> str:
        place = f"{self.file}: {self.key} " if self.key else f"{self.file} "
        mend = f"; to mend: {self.mend}" if self.mend else ""
        return _line(f"{place}{self.wrong}; expected {self.expected}{mend} ({IN_WORDS[self.client]})")


class MetadataError(DataError):
    """Metadata files break rules: all of them, one a line.

    Attributes:
        problems: The rules and places.
    """

    def __init__(self, problems: Iterable[Problem], where: Path) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{where}: {count} problem{'s' if count != 1 else ''} in the metadata for Kaggle:\n{lines}")


@dataclass(frozen=True)
class Entry:
    """What is said of a key of a file.

    Attributes:
        expected: What it must hold, without the rules that are told one by one.
        absent: What the client does without a key that has to be there.
        mistyped: What the client does with a value of another type.
        null: What it does with null, where that is something else.
        empty: What it does with null, 0, false and empty values of another type, where that is something else.
        mend: What mends an absent key.
    """

    expected: str
    absent: Client = "refuses"
    mistyped: Client = "refuses"
    null: Client | None = None
    empty: Client | None = None
    mend: str = ""

    def client(self, value: object) -> Client:
        """What the client does with a value of another type."""
        null = self.null if value is None else None
        return null or (None if value else self.empty) or self.mistyped


class Found(NamedTuple):
    """What a rule finds. `key` is told only where it is not the rule's first."""

    value: object
    wrong: str
    mend: str = ""
    key: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule on values whose types are right.

    Attributes:
        name: How the tests call it.
        keys: The keys it reads; where one of them is absent or mistyped the rule is silent.
        expected: What it asks.
        client: What Kaggle's client does with a file that breaks it.
        find: Yields what breaks it.
        beside: Whether it reads what lies beside the file too.
    """

    name: str
    keys: tuple[str, ...]
    expected: str
    client: Client
    find: Callable[..., Iterator[Found]]
    beside: bool = False


def _line(text: str) -> str:
    """One line that is safe in a terminal, whatever a file holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def said(value: object) -> str:
    """What stands there, in words."""
    if value == "":
        return "is empty"
    text = json.dumps(value, ensure_ascii=False)
    return f"is {text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'}"


def characters(text: str) -> str:
    """How many characters, in words."""
    return f"{len(text)} character{'s' if len(text) != 1 else ''}"
