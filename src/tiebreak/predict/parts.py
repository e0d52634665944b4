"""The finished parts of a prediction run, kept beside its output until the whole is done.

`predictions.parquet.parts/` holds `run.json`, which says what is being computed, and one small parquet file for each
finished chunk of rows. A part is written aside and renamed, so that a part which is there is whole; it is checked
again all the same before it is trusted, because a crash of the machine can undo more than a crash of the program.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tiebreak import predictions, storage
from tiebreak.errors import DataError, UsageError


@dataclass(frozen=True)
class Parts:
    """Parts of one run.

    Attributes:
        directory: Where they lie.
        identity: Fingerprint of input, judge and settings; parts of another run are never mixed in.
    """

    directory: Path
    identity: str

    @classmethod
    def begin(cls, output: Path, identity: str, *, resume: bool) -> Parts:
        """Start a run, or go on with an interrupted one.

        Raises:
            UsageError: An interrupted run lies there and `resume` is false, or it was a run of something else.
        """
        parts = cls(output.with_name(output.name + ".parts"), identity)
        if not parts.directory.exists():
            storage.make_directory(parts.directory)
            storage.write_text(parts.directory / "run.json", json.dumps({"identity": identity}) + "\n")
            return parts
        finished = len(list(parts.directory.glob("*.parquet")))
        if not resume:
            raise UsageError(
                f"{parts.directory} holds {finished} finished parts of an interrupted run",
                expected="no unfinished run, or leave to go on with it",
                mend=f"the same command with --resume to go on, or rm -r {parts.directory} to start anew",
            )
        if parts._recorded_identity() != identity:
            raise UsageError(
                f"{parts.directory} belongs to a run with another input, judge or setting",
                expected="the same input files, judge and options as before",
                mend=f"rm -r {parts.directory}, then the same command without --resume",
            )
        return parts

    def _recorded_identity(self) -> str | None:
        try:
            recorded = json.loads((self.directory / "run.json").read_text(encoding="utf-8"))
            return str(recorded["identity"])
        except (OSError, ValueError, KeyError, TypeError):
            # Killed before run.json was written: then no part was written either.
            return self.identity if not list(self.directory.glob("*.parquet")) else None

    def path(self, number: int) -> Path:
        """The file of chunk `number`, counted from 0."""
        return self.directory / f"{number:06d}.parquet"

    def finished(self, number: int, ids: pl.Series) -> bool:
        """Whether chunk `number` is there, readable, and holds exactly these ids."""
        path = self.path(number)
        if not path.is_file():
            return False
        try:
            return predictions.validate(pl.read_parquet(path))["id"].equals(ids)
        except (pl.exceptions.PolarsError, DataError, OSError):
            return False

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
