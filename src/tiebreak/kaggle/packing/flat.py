"""A folder with folders in it as a flat one: Kaggle's client leaves folders out, or makes archives of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from tiebreak.errors import DataError

LAYOUT: Final = "layout.json"
"""Says where each file of a flat folder belongs; absent where every file lies where it belongs."""

SEPARATOR: Final = "--"


def names(paths: Iterable[str]) -> dict[str, str]:
    """A name without folders for each path: `members/a/judge.json` becomes `members--a--judge.json`.

    Two paths that would get one name are told apart by a number.

    Raises:
        DataError: A file has the name of the list itself.
    """
    found: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: (path.count("/"), path)):  # what is flat already keeps its name
        name = wanted = path.replace("/", SEPARATOR)
        number = 1
        while name in found.values():
            number += 1
            stem, dot, suffix = wanted.rpartition(".")
            name = f"{stem}{SEPARATOR}{number}{dot}{suffix}" if dot else f"{wanted}{SEPARATOR}{number}"
        found[path] = name
    if LAYOUT in found.values():
        raise DataError(f"a file is called {LAYOUT}", expected="a bundle or model without such a file")
    return dict(sorted(found.items()))


def layout(flat: Mapping[str, str]) -> bytes | None:
    """The list that says where each file belongs, as JSON; None where every name is the path itself."""
    if all(path == name for path, name in flat.items()):
        return None
    return (json.dumps(dict(flat), indent=1, ensure_ascii=False) + "\n").encode()
