"""What pydantic finds wrong with a recipe, told with the place where it was written and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tiebreak.train.finetune.document import Document, Fault, Path


def schema_faults(error: ValidationError, found: Document, model: type[BaseModel]) -> Iterator[tuple[Path, Fault]]:
    """One fault a value: a union of types complains once for each of them. `model` is what the values should be."""
    grouped: dict[Path, list[Any]] = {}
    for item in error.errors():
        grouped.setdefault(real(item, found.values), []).append(item)
    for path, items in grouped.items():
        if path[-1] != "name" and (*path[:-1], "name") in grouped and items[0]["type"] == "missing":
            continue  # the defaults of a template go by its name
        kind = items[0]["type"]
        dotted = ".".join(map(str, path))
        if kind == "missing":
            yield path, Fault(found.place(path), f"{dotted} is missing", mend=f"add {path[-1]}: ...")
        elif kind == "extra_forbidden":
            known = _keys(model, path[:-1])
            near = get_close_matches(str(path[-1]), known, n=1)
            expected, mend = ("", f"write {near[0]}") if near else (f"one of {', '.join(known)}", "")
            yield path, Fault(found.place(path), f"unknown key {dotted!r}", expected, mend)
        else:
            yield path, _value_fault(path, dotted, items, found)


def _value_fault(path: Path, dotted: str, items: list[Any], found: Document) -> Fault:
    value = items[0]["input"]
    shown = {list: "a list", dict: "a map", type(None): "null"}.get(type(value), repr(value))
    expected = dict.fromkeys(_expected(item) for item in items)
    choices = [word for item in items for word in str(item.get("ctx", {}).get("expected", "")).split("'")[1::2]]
    near = get_close_matches(str(value), choices, n=1)
    mend = f"{dotted}={near[0]}" if near else ""
    return Fault(found.place(path), f"{dotted} is {shown}", " or ".join(expected), mend)


def _expected(item: Any) -> str:
    if item["type"] in {"model_type", "dict_type"}:
        return "keys and values"
    message = re.sub(r"^.*?(Input )?should (be|have) (a valid )?", "", str(item["msg"]))
    message = re.split(r", unable|, got| after validation", message)[0]
    return f"a {message}" if message in {"number", "integer", "boolean", "list", "tuple", "string"} else message


def real(item: Any, values: Any) -> Path:
    """The path of an error without the names that pydantic gives to the members of a union."""
    path: Path = ()
    here = values
    for part in item["loc"]:
        known = part in here if isinstance(here, Mapping) else isinstance(here, list) and part in range(len(here))
        if known:
            here = here[part]
        elif item["type"] == "missing" and part == item["loc"][-1]:
            return (*path, part)
        else:
            continue
        path = (*path, part)
    return path


def _keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the part of a recipe at a path may have."""
    kind: Any = model
    for part in path:
        inner = get_args(kind)[0] if isinstance(part, int) else kind.model_fields[part].annotation
        kind = next(iter(_members(inner)), None)
        if kind is None:
            return []
    return list(getattr(kind, "model_fields", []))


def _members(annotation: Any) -> Iterable[Any]:
    """The models, and lists of them, among the types that an annotation allows."""
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _members(member)
    elif origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin is list or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield annotation
