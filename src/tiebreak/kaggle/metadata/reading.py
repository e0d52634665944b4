"""How a metadata file is read: closed, every fault of it at once, and for each what Kaggle's own client would do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tiebreak import storage
from tiebreak.errors import DataError

Client = Literal["refuses", "ignores", "changes"]
"""What Kaggle's client does with a fault: it stops; it sends the file as if nothing were wrong; it sends another value
than the file says."""

IN_WORDS: Final[dict[Client, str]] = {
    "refuses": "Kaggle's client refuses it",
    "ignores": "Kaggle's client says nothing",
    "changes": "Kaggle's client sends something else",
}

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
        return f"{place}{self.wrong}; expected {self.expected}{mend} ({IN_WORDS[self.client]})"


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


class Metadata(BaseModel):
    """A metadata file of Kaggle. Closed: a key that Kaggle does not read is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_name=True, validate_by_alias=True)

    file: ClassVar[str]
    former: ClassVar[str] = ""
    """The name that the file once had: Kaggle's client still reads it."""
    elsewhere: ClassVar[dict[str, str]] = {}
    """Keys that people write here, and where what they mean belongs."""
    rules: ClassVar[list[Rule]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.rules = []

    @classmethod
    def rule(
        cls, *keys: str, expected: str, client: Client, beside: bool = False
    ) -> Callable[[Callable[..., Iterator[Found]]], Callable[..., Iterator[Found]]]:
        """Make a rule of this file from a function that yields what breaks it."""

        def register(find: Callable[..., Iterator[Found]]) -> Callable[..., Iterator[Found]]:
            cls.rules.append(Rule(find.__name__.strip("_"), keys, expected, client, find, beside))
            return find

        return register

    @classmethod
    def told(cls, problem: Problem, values: dict[str, Any]) -> Problem:
        """A problem as it is told, where what the client does with it depends on the other keys of the file."""
        return problem

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file, or the file of this kind in a folder.

        Raises:
            MetadataError: It breaks rules; all that the file itself can break are told.
        """
        path = path / cls.file if path.is_dir() else path
        values, problems = _given(cls, path)
        problems += _broken(cls, values, path.name, None)
        if problems:
            raise MetadataError([cls.told(problem, values) for problem in problems], path)
        return cls.model_validate(values)

    @classmethod
    def problems(cls, folder: Path) -> list[Problem]:
        """Every rule that the file of this kind in a folder breaks, and every rule about what lies beside it."""
        values, problems = _given(cls, folder / cls.file)
        problems += _broken(cls, values, cls.file, folder)
        return [cls.told(problem, values) for problem in problems]

    def text(self) -> str:
        """The JSON: keys in the order of the schema, ASCII alone (the client reads some files in the locale's code)."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True), indent=2) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the file into a folder, whole or not at all.

        Returns:
            The path of the file.
        """
        path = folder / self.file
        storage.write_text(path, self.text())
        return path


def given(cls: type[Metadata], folder: Path) -> dict[str, Any]:
    """What the file of a kind in a folder holds, as far as its types are right, under names of attributes."""
    return _given(cls, folder / cls.file)[0]


def key_of(cls: type[Metadata], name: str) -> str:
    """The key of an attribute."""
    return cls.model_fields[name].alias or name


def characters(text: str) -> str:
    """How many characters, in words."""
    return f"{len(text)} character{'s' if len(text) != 1 else ''}"


def _given(cls: type[Metadata], path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """What a file holds under names of attributes, as far as its types are right, defaults filled in; and the rest."""
    content, problem = _load(cls, path)
    if problem is not None:
        return {}, [problem]
    problems = [_twice(path.name, key) for key in content.twice]
    problems += [_unknown(cls, path.name, key, content.values[key]) for key in content.values if key not in _keys(cls)]
    values: dict[str, Any] = {}
    for name, info in cls.model_fields.items():
        key = key_of(cls, name)
        entry = next(item for item in info.metadata if isinstance(item, Entry))
        if key in content.values:
            try:
                values[name] = _adapter(cls, name).validate_python(content.values[key])
            except ValidationError as error:
                problems += _mistyped(path.name, key, entry, content.values[key], error)
        elif not info.is_required():
            values[name] = info.get_default(call_default_factory=True, validated_data={})
        else:
            problems.append(Problem(path.name, key, None, "is missing", entry.expected, entry.mend, entry.absent))
    return values, problems


def _broken(cls: type[Metadata], values: dict[str, Any], file: str, folder: Path | None) -> list[Problem]:
    """The rules that values break. Without a folder only those that need none."""
    model = cls.model_construct(**values)
    names = {key_of(cls, name): name for name in cls.model_fields}
    problems = []
    for rule in cls.rules:
        if any(names[key] not in values for key in rule.keys) or (rule.beside and (folder is None or not values)):
            continue
        found = rule.find(model, folder) if rule.beside else rule.find(model)
        for value, wrong, mend, key in found:
            where = key or (rule.keys[0] if rule.keys else WHOLE)
            problems.append(Problem(file, where, value, wrong, rule.expected, mend, rule.client))
    return problems


class _Content(NamedTuple):
    values: dict[str, Any]
    twice: list[str]


def _load(cls: type[Metadata], path: Path) -> tuple[_Content, None] | tuple[_Content, Problem]:
    twice: list[str] = []

    def gather(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice.extend(key for key in dict(pairs) if keys.count(key) > 1)
        return dict(pairs)

    nothing = _Content({}, [])
    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=gather)
    except FileNotFoundError:
        return nothing, _absent(cls, path)
    except (OSError, ValueError) as error:
        return nothing, Problem(path.name, WHOLE, None, f"cannot be read: {error}", "JSON in UTF-8", "", "refuses")
    if not isinstance(values, dict):
        wrong = f"holds {_shown(values)}"
        return nothing, Problem(path.name, WHOLE, values, wrong, "a JSON object", "", "refuses")
    return _Content(values, twice), None


def _absent(cls: type[Metadata], path: Path) -> Problem:
    if cls.former and path.with_name(cls.former).is_file():
        mend = f"rename {cls.former} to {path.name}"
        return Problem(path.name, WHOLE, None, "does not exist", "the file under this name", mend, "ignores")
    return Problem(path.name, WHOLE, None, "does not exist", "that file", "pack again", "refuses")


def _twice(file: str, key: str) -> Problem:
    return Problem(file, key, None, "is given twice", "each key once", "keep one: the last counts", "ignores")


def _unknown(cls: type[Metadata], file: str, key: str, value: object) -> Problem:
    near = get_close_matches(key, _keys(cls), n=1, cutoff=0.75)
    mend = cls.elsewhere.get(key) or (
        f"write {near[0]}" if near else f"take it out (there are {', '.join(_keys(cls))})"
    )
    return Problem(file, key, value, "is unknown", "a key that Kaggle reads from this file", mend, "ignores")


def _mistyped(file: str, key: str, entry: Entry, value: object, error: ValidationError) -> Iterator[Problem]:
    """What is wrong inside a value, each with its place."""
    for fault in error.errors():
        place = key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        inner = fault["input"] if fault["loc"] else value
        if fault["type"] == "extra_forbidden":
            yield Problem(file, place, inner, "is unknown", entry.expected, "take it out", "ignores")
        elif fault["type"] == "missing":
            yield Problem(file, place, None, "is missing", entry.expected, "", entry.client(value))
        else:
            yield Problem(file, place, inner, f"is {_shown(inner)}", entry.expected, "", entry.client(value))


def _keys(cls: type[Metadata]) -> list[str]:
    return [key_of(cls, name) for name in cls.model_fields]


@cache
def _adapter(cls: type[Metadata], name: str) -> TypeAdapter[Any]:
    info: FieldInfo = cls.model_fields[name]
    kind: Any = info.annotation
    for item in info.metadata:
        kind = Annotated[kind, item]
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
