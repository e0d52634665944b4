"""YAML documents by name or by file: those that ship, and those of a user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Final

from tiebreak import storage
from tiebreak.errors import UsageError
from tiebreak.train.finetune import document
from tiebreak.train.finetune.document import Document, Fault

_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True)
class Shelf:
    """One kind of document.

    Attributes:
        what: Its name in messages.
        package: Where those that ship lie.
        listing: The command that lists them.
        page: The page that explains their keys.
    """

    what: str
    package: str
    listing: str
    page: str

    def names(self) -> list[str]:
        """Names of those that ship."""
        files = resources.files(self.package).iterdir()
        return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))

    def source(self, name: str) -> tuple[str, str]:
        """The text of a document with its comments, and the name of its file.

        Raises:
            UsageError: There is no such file, and none of that name ships.
        """
        names = self.names()
        if name in names:
            return (resources.files(self.package) / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml"
        file = Path(name)
        if not file.is_file():
            near = [] if name.endswith(_SUFFIXES) else get_close_matches(name, names, n=2, cutoff=0.4)
            raise UsageError(
                f"there is no {self.what} {name!r}",
                expected=f"a YAML file, or one of {', '.join(names)}",
                mend=f"did you mean {' or '.join(near)}?" if near else self.listing,
            )
        try:
            with file.open(encoding="utf-8") as stream:
                return stream.read(document.LARGEST + 1), name
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} is not text", expected=f"a {self.what} in YAML, UTF-8") from error

    def read(self, name: str, overrides: Sequence[str]) -> Document:
        """A document with `a.b=c` applied to it in order.

        Raises:
            UsageError: There is none, or it is not YAML.
        """
        found = document.parse(*self.source(name))
        for item in overrides:
            document.override(found, item)
        return found

    def copy(self, name: str, file: Path, *, verb: str, force: bool) -> None:
        """Copy one that ships into a file. Its first line is the command that runs it: of the copy it runs the copy.

        Args:
            name: The document.
            file: Where to.
            verb: What stands before the name in that command.
            force: Write over a file that is there.

        Raises:
            UsageError: There is no such document, or the file is there already.
        """
        text, _ = self.source(name)
        if file.exists() and not force:
            raise UsageError(f"{file} is there already", expected="a new file", mend="--force to write over it")
        storage.write_text(file, text.replace(f"{verb} {name} ", f"{verb} {file.name} ", 1))

    def refusal(self, name: str, faults: Iterable[Fault]) -> UsageError:
        """All faults of a document in one error, in the order of their lines."""
        found = sorted(faults, key=_line)
        count = "a fault" if len(found) == 1 else f"{len(found)} faults"
        listing = "\n".join(f"  {fault}" for fault in found)
        return UsageError(f"{self.what} {name} has {count}:\n{listing}\n({self.page} says what each key means)")


def _line(fault: Fault) -> int:
    number = fault.where.rpartition(":")[2]
    return int(number) if number.isdigit() else sys.maxsize
