"""The finished parts of a prediction run, kept beside its output until the whole is done.

`predictions.parquet.parts/` holds `run.json`, which says what is being computed, and one small parquet file for each
finished chunk of rows. A part is written aside and renamed, so that a part which is there is whole; it is checked
again all the same before it is trusted, because a crash of the machine can undo more than a crash of the program.
Whoever computes a chunk, this process or one of many workers, the part is the same.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import polars as pl

from tiebreak import predictions, storage
from tiebreak.errors import DataError, UsageError
from tiebreak.predict import lock

RUN: Final = "run.json"
LOCK: Final = "lock"


@dataclass(frozen=True)
class Parts:
    """Parts of one run; as a context, for as long as the run lasts.

    Attributes:
        directory: Where they lie.
        identity: Fingerprint of input, judge and settings; parts of another run are never mixed in.
        held: Keeps other runs away, where this process is the one that drives the run.
    """

    directory: Path
    identity: str
    held: IO[str] | None = field(default=None, compare=False)

    @classmethod
    def begin(cls, output: Path, identity: str, *, resume: bool, chunk_rows: int = 0) -> Parts:
        """Start a run, or go on with an interrupted one.

        Args:
            output: The file that the run will write.
            identity: Fingerprint of the run.
            resume: Whether to go on with an interrupted run.
            chunk_rows: Rows of a chunk, recorded for whoever resumes.

        Raises:
            UsageError: An interrupted run lies there and `resume` is false, it was a run of something else, or another
                process is at work on it.
        """
        directory = beside(output)
        fresh = not directory.exists()
        if fresh:
            storage.make_directory(directory)
        elif not resume:
            raise _in_the_way(directory)
        parts = cls(directory, identity, lock.hold(directory / LOCK))
        if parts.held is None:
            raise UsageError(
                f"{directory}: another process is at work on this output",
                expected="one run at a time for one output",
                mend="wait for the other run to end, or write to another file",
            )
        try:
            parts._record(chunk_rows, fresh=fresh)
        except BaseException:
            parts.close()
            raise
        return parts

    def _record(self, chunk_rows: int, *, fresh: bool) -> None:
        recorded = recall(self.directory)
        if not fresh and recorded.get("identity") != self.identity and (recorded or self.numbers()):
            raise UsageError(
                f"{self.directory} belongs to a run with another input, judge or setting",
                expected="the same input files, judge and options as before",
                mend=f"rm -r {self.directory}, then the same command without --resume",
            )
        # Killed before run.json was written: then no part was written either, and it is written now.
        if not recorded:
            document = {"identity": self.identity, "chunk_rows": chunk_rows}
            storage.write_text(self.directory / RUN, json.dumps(document) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None and not self.numbers():
            self.discard()  # nothing to go on from, so nothing that should be in the way of the next try
        self.close()

    def close(self) -> None:
        """Let other runs come near."""
        if self.held is not None:
            self.held.close()

    def path(self, number: int) -> Path:
        """The file of chunk `number`, counted from 0."""
        return self.directory / f"{number:06d}.parquet"

    def numbers(self) -> set[int]:
        """Chunks whose part is there."""
        return finished_parts(self.directory)

    def finished(self, number: int, ids: pl.Series) -> pl.DataFrame | None:
        """The part of chunk `number`, if it is there, readable, and holds exactly these ids."""
        try:
            table = predictions.validate(pl.read_parquet(self.path(number)))
        except (pl.exceptions.PolarsError, DataError, OSError):
            return None
        return table if table["id"].equals(ids) else None

    def store(self, number: int, table: pl.DataFrame) -> None:
        """Write chunk `number` whole or not at all."""
        with storage.replacing(self.path(number)) as aside:
            table.write_parquet(aside)

    def collect(self, count: int) -> pl.DataFrame:
        """All parts, in order."""
        tables = [pl.read_parquet(self.path(number)) for number in range(count)]
        return pl.concat(tables) if tables else pl.DataFrame(schema=predictions.SCHEMA)

    def discard(self) -> None:
        """Remove the parts: the output holds them now."""
        shutil.rmtree(self.directory, ignore_errors=True)


def beside(output: Path) -> Path:
    """Where the parts of an output lie."""
    return output.with_name(output.name + ".parts")


def recall(directory: Path) -> dict[str, Any]:
    """What an interrupted run recorded about itself: `identity`, `chunk_rows`; nothing if there is no such run."""
    try:
        recorded = json.loads((directory / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def finished_parts(directory: Path) -> set[int]:
    """Numbers of the chunks whose part is there; whether it is sound is seen when it is used."""
    return {int(path.stem) for path in directory.glob("[0-9]*.parquet") if path.stem.isdecimal()}


def _in_the_way(directory: Path) -> UsageError:
    return UsageError(
        f"{directory} holds {len(finished_parts(directory))} finished parts of an interrupted run",
        expected="no unfinished run, or leave to go on with it",
        mend=f"the same command with --resume to go on, or rm -r {directory} to start anew",
    )
