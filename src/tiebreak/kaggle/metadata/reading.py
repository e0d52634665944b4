"""How a metadata file is read: every fault of its JSON, its keys, its types and its rules at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tiebreak.kaggle.metadata.problem import WHOLE, Entry, Problem, said

if TYPE_CHECKING:
    from tiebreak.kaggle.metadata.schema import Metadata


def key_of(cls: type[Metadata], name: str) -> str:
    """The key of an attribute."""
    return cls.model_fields[name].alias or name


def given(cls: type[Metadata], path: Path) -> tuple[dict[str, Any], list[Problem]]:
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


def broken(cls: type[Metadata], values: dict[str, Any], file: str, folder: Path | None) -> list[Problem]:
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
    except (OSError, ValueError, RecursionError) as error:
        return nothing, Problem(path.name, WHOLE, None, f"cannot be read: {error}", "JSON in UTF-8", "", "refuses")
    if not isinstance(values, dict):
        wrong = f"holds {said(values).removeprefix('is ')}"
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
            yield Problem(file, place, inner, said(inner), entry.expected, "", entry.client(value))


def _keys(cls: type[Metadata]) -> list[str]:
    return [key_of(cls, name) for name in cls.model_fields]


@cache
def _adapter(cls: type[Metadata], name: str) -> TypeAdapter[Any]:
    info: FieldInfo = cls.model_fields[name]
    kind: Any = info.annotation
    for item in info.metadata:
        kind = Annotated[kind, item]
    return TypeAdapter(kind, config=ConfigDict(strict=True))
