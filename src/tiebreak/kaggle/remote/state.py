"""`pushed.json`: what of a pack is on Kaggle. No credentials, no addresses of uploads: it may lie in a repository.

Before anything is sent, it is written down what is about to be sent; so a push that was killed knows what it may find
on Kaggle already, and sends nothing twice.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiebreak import storage
from tiebreak.errors import DataError
from tiebreak.kaggle.layout import Layout

FORMAT: Final = 1


def now() -> str:
    """The time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part(_Closed):
    """One thing as it is on Kaggle.

    Attributes:
        id: What Kaggle calls it.
        digest: Of what it holds.
        card: Of its metadata.
        version: Number of the version that holds it; 0 for a model, which has none.
        cells: Of a notebook's cells, as Kaggle showed them after the push; empty: it did not.
        at: When it was sent.
    """

    id: str
    digest: str
    card: str = ""
    version: int = 0
    cells: str = ""
    at: str = Field(default_factory=now)


class Begun(_Closed):
    """Something that was about to be sent when this was written.

    Attributes:
        id: What Kaggle calls it.
        digest: Of what it would hold.
        before: Version that was there before; 0: nothing was; None: nobody knows.
        known: Submissions that were there before.
    """

    id: str
    digest: str
    before: int | None = None
    known: list[int] = Field(default_factory=list)


class Submitted(_Closed):
    """A version of the notebook that was handed in."""

    competition: str
    version: int
    message: str
    at: str = Field(default_factory=now)


class Pushed(_Closed):
    """All of it; the keys are wheels, model, judge, base and kernel."""

    format: Literal[1] = 1
    parts: dict[str, Part] = Field(default_factory=dict)
    begun: dict[str, Begun] = Field(default_factory=dict)
    submissions: list[Submitted] = Field(default_factory=list)

    def part(self, name: str, id: str) -> Part | None:
        """What is known of one thing, unless that was under another name on Kaggle."""
        found = self.parts.get(name)
        return found if found is not None and found.id == id else None

    def started(self, name: str, id: str, digest: str) -> Begun | None:
        """What was about to be sent, if it was this."""
        found = self.begun.get(name)
        return found if found is not None and (found.id, found.digest) == (id, digest) else None


def read(pack: Layout) -> Pushed:
    """What was pushed of a pack; nothing, if it never was.

    Raises:
        DataError: The file is damaged, or newer.
    """
    if not pack.pushed.is_file():
        return Pushed()
    try:
        return Pushed.model_validate_json(pack.pushed.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{pack.pushed}: {where}: {first['msg']}",
            expected=f"what tiebreak kaggle push wrote, format {FORMAT}",
            mend=f"remove {pack.pushed}; the next push then makes new versions of everything",
        ) from error


def write(pack: Layout, pushed: Pushed) -> None:
    """Write it, whole or not at all."""
    storage.write_text(pack.pushed, pushed.model_dump_json(indent=1) + "\n")
