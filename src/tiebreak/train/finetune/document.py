"""A recipe's text as plain values, each with the place where it was written. Knows YAML, not what a recipe means.

YAML is composed into nodes without resolving anything (no tag can make an object), and plain words become values by the
core rules of YAML 1.2: 2e-4 is a number and `no` is a word, which YAML 1.1 has the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tiebreak.errors import UsageError

LARGEST: Final = 256 * 1024
"""Bytes of a recipe; the shipped ones have less than 2,000."""

MOST_VALUES: Final = 10_000
"""Values after aliases are written out, so that a small file cannot grow without end."""

DEEPEST: Final = 20

Path = tuple[str | int, ...]

_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Any]] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a recipe.

    Attributes:
        where: File and line, or the override.
        wrong: What was found.
        expected: What would have been right.
        mend: What to write.
    """

    where: str
    wrong: str
    expected: str = ""
    mend: str = ""

    def __str__(self) -> str:
        parts = [self.wrong]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.mend:
            parts.append(f"to mend: {self.mend}")
        return f"{self.where}: {'; '.join(parts)}"


@dataclass
class Document:
    """Values and where each was written.

    Attributes:
        name: Of the file, for messages.
        values: Plain values.
        places: Path of a value -> place.
        faults: What was wrong with the text itself.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def place(self, path: Path) -> str:
        """Where a value was written, or the part of the recipe that it belongs to."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)


def parse(text: str, name: str) -> Document:
    """A YAML text as values with places.

    Raises:
        UsageError: It is not YAML, too large, or not a mapping.
    """
    if len(text.encode()) > LARGEST:
        raise UsageError(f"{name} is over {LARGEST // 1024} KiB", expected="a recipe")
    document = Document(name)
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{_mark(name, error)}: not YAML: {_problem(error)}", expected="a recipe in YAML") from error
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{name} holds no recipe", expected="keys and values in YAML", mend="tiebreak recipe ls")
    document.values = _Reader(document).value(node, (), lambda line: f"{name}:{line}")
    return document


def override(document: Document, text: str) -> None:
    """Apply `a.b=c`: the value is YAML, lists are reached by number (`templates.0.max_length=512`)."""
    key, equals, value = text.partition("=")
    where = f"override {text}"
    words = key.strip().split(".")
    if not equals or not all(words):
        document.faults.append(Fault(where, "not KEY=VALUE", expected="for example optimiser.lr=1e-4"))
        return
    try:
        node = yaml.compose(value, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        document.faults.append(Fault(where, f"the value is not YAML: {_problem(error)}"))
        return
    path = _path(document, words, where)
    if path is None:
        return
    _forget(document, path)
    document.places[path] = where
    for depth in range(1, len(path)):
        document.places.setdefault(path[:depth], where)
    holder: Any = document.values
    for part in path[:-1]:
        holder = holder[part]
    found = None if node is None else _Reader(document).value(node, path, lambda line: where)
    if isinstance(holder, list) and path[-1] == len(holder):
        holder.append(found)
    else:
        holder[path[-1]] = found


def dump(values: dict[str, Any]) -> str:
    """Values as YAML that `parse` reads as the same values."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def scalar(text: str) -> Any:
    """A plain word as a value."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def value(self, node: yaml.Node, path: Path, place: Any) -> Any:
        self.count += 1
        where = place(node.start_mark.line + 1)
        if self.count > MOST_VALUES or len(path) > DEEPEST:
            raise UsageError(f"{where}: over {MOST_VALUES:,} values or {DEEPEST} levels", expected="a recipe")
        self.document.places.setdefault(path, where)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in {"str", "seq", "map"}:
            self.document.faults.append(Fault(where, f"tag {node.tag}", expected="plain values"))
            return None
        if isinstance(node, yaml.MappingNode):
            return dict(self.items(node, path, place))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, number), place) for number, item in enumerate(node.value)]
        return scalar(node.value) if node.style is None else node.value

    def items(self, node: yaml.MappingNode, path: Path, place: Any) -> Iterator[tuple[str, Any]]:
        seen: dict[str, str] = {}
        for key, value in node.value:
            where = place(key.start_mark.line + 1)
            if not isinstance(key, yaml.ScalarNode):
                self.document.faults.append(Fault(where, "a key that is not a word"))
                continue
            if key.value in seen:
                self.document.faults.append(
                    Fault(where, f"key {key.value!r} again; it stands at {seen[key.value]} too")
                )
                continue
            seen[key.value] = where
            self.document.places[(*path, key.value)] = where
            yield key.value, self.value(value, (*path, key.value), place)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes a word that would read as a number, as in YAML 1.2 as in 1.1; texts of several lines stand as they are."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value.strip() else None
    # Unicode's own line breaks survive in double quotes alone.
    style = '"' if set(value) & set("\r\x85\u2028\u2029") else style
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


def _path(document: Document, words: list[str], where: str) -> Path | None:
    """Where a value is to go; parts that are null or missing are made on the way."""
    here: Any = document.values
    path: Path = ()
    for depth, word in enumerate(words):
        last = depth == len(words) - 1
        if isinstance(here, list):
            if not word.isdigit() or int(word) > len(here):
                known = f"a number from 0 to {len(here)}, which adds one"
                document.faults.append(Fault(where, f"no item {word!r} in {_dotted(path)}", expected=known))
                return None
            if int(word) == len(here) and not last:
                here.append({})
            path = (*path, int(word))
        elif isinstance(here, dict):
            path = (*path, word)
            if not last and here.get(word) is None:
                here[word] = {}
        else:
            document.faults.append(Fault(where, f"{_dotted(path)} is {here!r} and has no parts"))
            return None
        here = None if last else here[path[-1]]
    return path


def _forget(document: Document, path: Path) -> None:
    document.places = {known: at for known, at in document.places.items() if known[: len(path)] != path}


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _mark(name: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return name if mark is None else f"{name}:{mark.line + 1}"


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or str(error).splitlines()[0])
