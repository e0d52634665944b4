"""The notebook as one program that says which of its cells it is in, and the notebook with what each cell printed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tiebreak.errors import DataError

MARK: Final = "\x1etiebreak-cell "


@dataclass(frozen=True)
class Line:
    """A line that the notebook printed.

    Attributes:
        seconds: Since its start.
        cell: Position of the cell among all cells; -1 is before the first.
        text: What it says.
    """

    seconds: float
    cell: int
    text: str


class Notebook:
    """A notebook as Kaggle would run it.

    Raises:
        DataError: It is none, or has no code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self.cells = [(str(cell["cell_type"]), _joined(cell["source"])) for cell in self._document["cells"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is no notebook: {error}", expected="nbformat 4", mend="tiebreak kaggle pack"
            ) from error
        if not any(kind == "code" for kind, _ in self.cells):
            raise DataError(f"{path} has no code", expected="the notebook of a pack", mend="tiebreak kaggle pack")

    def program(self) -> str:
        """Its code, each cell after a mark."""
        code = [(number, source) for number, (kind, source) in enumerate(self.cells) if kind == "code"]
        return "\n".join(f"print({MARK + str(number)!r}, flush=True)\n{source}\n" for number, source in code)

    def name(self, cell: int) -> str:
        """What a cell is about: the heading before it."""
        for kind, source in reversed(self.cells[: cell + 1]):
            if kind == "markdown" and (heading := re.search(r"^#+\s*(.+)$", source, re.MULTILINE)):
                return heading[1].strip()
        return f"cell {cell}"

    def executed(self, lines: list[Line]) -> str:
        """The notebook with its outputs, as nbformat JSON."""
        document = json.loads(json.dumps(self._document))
        count = 0
        for number, cell in enumerate(document["cells"]):
            if cell["cell_type"] != "code":
                continue
            said = [line for line in lines if line.cell == number]
            count += 1
            cell["execution_count"] = count
            text = "".join(f"{line.text}\n" for line in said)
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}] if said else []
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
