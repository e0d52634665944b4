"""The tables of `docs/kaggle-metadata.md`: every key and every rule of Kaggle's metadata files, from the code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tiebreak.kaggle.metadata import Dataset, Instance, Kernel, Metadata, Model, dataset_rules, licences, machines, pack
from tiebreak.kaggle.metadata.problem import Client, Entry

BEGIN: Final = "<!-- from the code, by `make docs` -->\n"
END: Final = "<!-- to here -->\n"
CLIENT: Final[dict[Client, str]] = {
    "refuses": "refuses",
    "ignores": "**says nothing**",
    "changes": "**sends another value**",
}


def page(text: str) -> str:
    """The page with its tables written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    """Keys and rules of each file, rules between the files, and Kaggle's lists of names."""
    parts = [part for kind in (Kernel, Dataset, Model, Instance) for part in (_keys(kind), _rules(kind))]
    return "\n".join([*parts, _between(), _names()])


def _keys(kind: type[Metadata]) -> str:
    rows = []
    for name, info in kind.model_fields.items():
        entry = next(item for item in info.metadata if isinstance(item, Entry))
        absent = CLIENT[entry.absent] if info.is_required() else "may be left out"
        rows.append((f"`{info.alias or name}`", entry.expected, absent, CLIENT[entry.mistyped]))
    header = ("key", "holds", "without it the client", "with another type the client")
    return f"## `{kind.file}`\n\n{_table(header, rows)}"


def _rules(kind: type[Metadata]) -> str:
    rules = sorted(kind.rules, key=lambda rule: not rule.keys)
    rows = [(_code(rule.keys) or "beside it", rule.expected, CLIENT[rule.client]) for rule in rules]
    rows.append(("any other key", "none: each is an error, with the key that was probably meant", CLIENT["ignores"]))
    rows.append(("a key given twice", "each once: the last would count", CLIENT["ignores"]))
    return _table(("key", "must be", "where it is not, the client"), rows)


def _between() -> str:
    rows = []
    for path, rule in pack.RULES:
        file = path.rpartition("/")[2] or Instance.file
        rows.append((f"`{file}`", _code(rule.keys), rule.expected, CLIENT[rule.client]))
    header = ("file", "key", "must be", "where it is not, the client")
    return f"## Between the files of a pack\n\n{_table(header, rows)}"


def _code(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys if key)


def _names() -> str:
    gone = [f"`{shape}` (the server takes `{instead}`)" for shape, instead in machines.RETIRED.items()]
    lists: dict[str, Iterable[str]] = {
        "Accelerators": [f"`{name}`" for name in machines.SHAPES],
        "Accelerators that are gone": gone,
        "Accelerators of Kaggle's own staff": [f"`{name}`" for name in machines.INTERNAL],
        "Frameworks": [f"`{name}`" for name in machines.FRAMEWORKS],
        "Types of instances": [f"`{name}`" for name in machines.INSTANCE_TYPES],
        "Licences of datasets": [f"`{name}`" for name in licences.DATASET],
        "Licences of models": [f"`{name}`" for name in licences.MODEL],
        "Types of columns": [f"`{name}`" for name in dataset_rules.TYPES],
    }
    return "## Names\n\n" + "".join(f"- {what}: {', '.join(names)}.\n" for what, names in lists.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(re.sub(r'[|]', '/', cell) for cell in line)} |\n" for line in lines)
