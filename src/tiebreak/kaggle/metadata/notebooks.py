"""What Kaggle asks of the notebook itself: the form of nbformat 4, as far as a run depends on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tiebreak.kaggle.metadata.kernel import Kernel
from tiebreak.kaggle.metadata.problem import Found

MAX_BYTES: Final = 1_000_000
"""The server takes less than a megabyte of source."""

UNREAD: Final = object()

_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@Kernel.rule("code_file", expected="a file that exists", client="refuses", beside=True)
def _code_exists(kernel: Kernel, folder: Path) -> Iterator[Found]:
    if not kernel.code_file:
        yield Found(kernel.code_file, "is empty", "write the name of the notebook")
    elif not (folder / kernel.code_file).is_file():
        yield Found(
            kernel.code_file, f"names {kernel.code_file}, which does not exist", "pack again, or write its name"
        )


@Kernel.rule("code_file", "kernel_type", expected="JSON in UTF-8", client="refuses", beside=True)
def _notebook_json(kernel: Kernel, folder: Path) -> Iterator[Found]:
    if (text := _text(kernel, folder)) is None:
        return
    try:
        json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        yield Found(kernel.code_file, f"names {kernel.code_file}, which is no JSON: {error}", "pack again")


@Kernel.rule(
    "code_file", expected=f"less than {MAX_BYTES:,} bytes (the server takes no more)", client="ignores", beside=True
)
def _code_size(kernel: Kernel, folder: Path) -> Iterator[Found]:
    path = folder / kernel.code_file
    if path.is_file() and path.stat().st_size >= MAX_BYTES:
        size = path.stat().st_size
        yield Found(kernel.code_file, f"names {kernel.code_file} of {size:,} bytes", "move data out of the notebook")


@Kernel.rule("code_file", "kernel_type", expected="a notebook of nbformat 4", client="ignores", beside=True)
def _notebook_format(kernel: Kernel, folder: Path) -> Iterator[Found]:
    content = _content(kernel, folder)
    for wrong in () if content is UNREAD else form_faults(content):
        yield Found(kernel.code_file, f"names {kernel.code_file}: {wrong}", "pack again")


@Kernel.rule(
    "code_file",
    "kernel_type",
    expected="metadata.kernelspec.name (a run fails without it)",
    client="ignores",
    beside=True,
)
def _notebook_kernelspec(kernel: Kernel, folder: Path) -> Iterator[Found]:
    content = _content(kernel, folder)
    if content is UNREAD or any(form_faults(content)):
        return
    named = content["metadata"].get("kernelspec")
    if not isinstance(named, dict) or not isinstance(named.get("name"), str):
        yield Found(kernel.code_file, f"names {kernel.code_file}, which names no kernel", "pack again")


@Kernel.rule("code_file", "kernel_type", expected="no outputs: the run makes them", client="changes", beside=True)
def _notebook_outputs(kernel: Kernel, folder: Path) -> Iterator[Found]:
    content = _content(kernel, folder)
    if content is UNREAD or any(form_faults(content)):
        return
    if count := sum(bool(cell.get("outputs")) for cell in content["cells"]):
        wrong = f"names {kernel.code_file} with outputs of {count} cell{'s' if count != 1 else ''}"
        yield Found(kernel.code_file, wrong, "pack again, or clear its outputs")


def form_faults(content: Any) -> Iterator[str]:
    """What keeps a JSON value from being a notebook of nbformat 4: the first fault of it and of each cell."""
    if not isinstance(content, dict):
        yield "it is no object"
    elif content.get("nbformat") != 4 or not _is_count(content.get("nbformat_minor")):
        yield f"nbformat is {content.get('nbformat')!r}, minor {content.get('nbformat_minor')!r}"
    elif not isinstance(content.get("metadata"), dict):
        yield "it has no metadata"
    elif not isinstance(content.get("cells"), list):
        yield "it has no cells"
    else:
        yield from _cell_faults(content["cells"], needs_id=content["nbformat_minor"] >= 5)


def _cell_faults(cells: list[Any], *, needs_id: bool) -> Iterator[str]:
    ids: set[str] = set()
    for number, cell in enumerate(cells, 1):
        if fault := _cell_fault(cell, needs_id=needs_id):
            yield f"cell {number} {fault}"
        elif needs_id:
            if cell["id"] in ids:
                yield f"cell {number} has the id of another"
            ids.add(cell["id"])


def _cell_fault(cell: Any, *, needs_id: bool) -> str | None:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        return "is neither code nor markdown nor raw"
    if not _is_source(cell.get("source")):
        return "has no source"
    if not isinstance(cell.get("metadata"), dict):
        return "has no metadata"
    if needs_id and not (isinstance(cell.get("id"), str) and _CELL_ID.fullmatch(cell["id"])):
        return "has no id"
    if cell["cell_type"] == "code" and not (isinstance(cell.get("outputs"), list) and _is_run(cell)):
        return "has no outputs or no execution_count"
    return None


def _is_source(source: Any) -> bool:
    lines = source if isinstance(source, list) else [source]
    return all(isinstance(line, str) for line in lines)


def _is_run(cell: dict[str, Any]) -> bool:
    return "execution_count" in cell and (cell["execution_count"] is None or _is_count(cell["execution_count"]))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(kernel: Kernel, folder: Path) -> bytes | None:
    path = folder / kernel.code_file
    return path.read_bytes() if kernel.kernel_type == "notebook" and path.is_file() else None


def _content(kernel: Kernel, folder: Path) -> Any:
    """The notebook; `UNREAD` where there is none, or none that can be read: another rule tells that."""
    text = _text(kernel, folder)
    try:
        return UNREAD if text is None else json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return UNREAD
