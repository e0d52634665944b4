"""The chunks of a run that several workers share: offered by the one who reads the input, claimed by whoever is free.

`predictions.parquet.parts/work/` lies on a file system that all workers see. A chunk on offer is a parquet file with
the texts; its name carries its number and its weight in characters. A claim is a file that only one worker can create.
The heaviest chunk goes first, so that no worker is left alone with a long one at the end. Nothing here needs a network,
a port or a message, and whatever is killed leaves a state that says what is still to be done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import comparisons, storage
from tiebreak.judges import Runtime
from tiebreak.predict.parts import LOCK, RUN, Parts, recall

MANIFEST: Final = "manifest.json"
JOB: Final = "job.json"


@dataclass(frozen=True)
class Job:
    """What workers must know, from `job.json`.

    Attributes:
        session: Name of this run of the driver; a worker of an earlier one stops when it sees another.
        judge: Directory of the bundle; None is the embedded judge.
        runtime: How the judge is to run.
    """

    session: str
    judge: str | None
    runtime: Runtime


@dataclass(frozen=True)
class Chunk:
    """One chunk of the input, as the manifest lists it.

    Attributes:
        chunk: Its number from 0, which is also the name of its part.
        first_row: Its first row in the input, from 0.
        rows: How many rows it has.
        characters: Of all texts: what it weighs.
        finished: Whether its part was there already when the run began.
    """

    chunk: int
    first_row: int
    rows: int
    characters: int
    finished: bool


@dataclass(frozen=True)
class Claim:
    """A chunk that one worker took.

    Attributes:
        chunk: Its number.
        rank: The worker.
        texts: The file with its rows.
    """

    chunk: int
    rank: int
    texts: Path


class Pool:
    """The chunks of one run. The driver makes it by `open`, workers by `join`."""

    def __init__(self, parts: Path) -> None:
        self.parts = parts
        self.directory = parts / "work"

    @classmethod
    def open(cls, parts: Parts, job: Job) -> Pool:
        """Begin to offer chunks; what an earlier driver left behind goes, its parts stay."""
        pool = cls(parts.directory)
        shutil.rmtree(pool.directory, ignore_errors=True)
        storage.make_directory(pool.directory)
        storage.write_text(pool.directory / JOB, json.dumps(asdict(job)) + "\n")
        return pool

    def job(self) -> Job | None:
        """What is to be done, once a driver has said so."""
        try:
            document = json.loads((self.directory / JOB).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Job(**document | {"runtime": Runtime(**document["runtime"])})

    @property
    def lock(self) -> Path:
        """Held by the driver for as long as it lives."""
        return self.parts / LOCK

    def as_parts(self) -> Parts:
        """Where finished parts go, for a worker."""
        return Parts(self.parts, str(recall(self.parts).get("identity", RUN)))

    def offer(self, number: int, table: pl.DataFrame, weight: int) -> None:
        """Put a chunk on offer."""
        with storage.replacing(self.directory / f"{number:06d}-{weight:012d}.parquet") as aside:
            table.write_parquet(aside, compression="lz4")

    def close(self, chunks: list[Chunk]) -> None:
        """Say that all chunks are on offer, and which rows each of them holds."""
        storage.write_text(self.directory / MANIFEST, json.dumps([asdict(chunk) for chunk in chunks], indent=1) + "\n")

    def take(self, rank: int, *, alone: bool) -> Claim | None:
        """The heaviest chunk that nobody has; none if there is none at the moment.

        Args:
            rank: The worker who asks.
            alone: Whether it is the only one: then it may try again where it died before.
        """
        for number, texts in self._offered():
            if not alone and self._text(f"{number:06d}.avoid") == str(rank):
                continue
            # Between the listing and the claim another worker may have finished it.
            if self._claim(number, rank) and texts.exists():
                return Claim(number, rank, texts)
        return None

    def _claim(self, number: int, rank: int) -> bool:
        try:
            handle = os.open(self._claim_path(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as stream:
            stream.write(str(rank))
        return True

    def _claim_path(self, number: int) -> Path:
        return self.directory / f"{number:06d}.claim"

    def done(self, claim: Claim) -> None:
        """The part is stored: the texts are needed no more. The claim stays, so that nobody takes it again."""
        claim.texts.unlink(missing_ok=True)

    def give_back(self, claim: Claim) -> None:
        """Let others take the chunk: this worker has to stop, and not because of the chunk."""
        self._claim_path(claim.chunk).unlink(missing_ok=True)

    def left_by(self, ranks: Collection[int]) -> list[Claim]:
        """Chunks that these workers, who are gone, claimed and did not finish."""
        found = []
        for number, texts in self._offered():
            rank = self._text(f"{number:06d}.claim")
            # An empty claim is one whose author was killed between making and signing it.
            if rank is not None and (not rank or int(rank) in ranks):
                found.append(Claim(number, int(rank or -1), texts))
        return found

    def retry(self, claim: Claim) -> None:
        """Put a chunk on offer again, for another worker than the one who died with it."""
        storage.write_text(self.directory / f"{claim.chunk:06d}.avoid", str(claim.rank))
        self.give_back(claim)

    def forgive(self) -> None:
        """Let every worker try every chunk: one of them is gone for good, and somebody has to."""
        for path in self.directory.glob("[0-9]*.avoid"):
            path.unlink(missing_ok=True)

    def exhausted(self) -> bool:
        """Whether all chunks were offered and all are done."""
        return (self.directory / MANIFEST).exists() and not self._offered()

    def unfinished(self) -> set[int]:
        """Chunks that were offered and are not done."""
        return {number for number, _ in self._offered()}

    def _offered(self) -> list[tuple[int, Path]]:
        """Number and texts of each chunk that is not done, the heaviest first."""
        found = []
        for path in self.directory.glob("[0-9]*-*.parquet"):
            number, weight = map(int, path.stem.split("-"))
            found.append((-weight, number, path))
        return [(number, path) for _, number, path in sorted(found)]

    def _text(self, name: str) -> str | None:
        try:
            return (self.directory / name).read_text(encoding="utf-8")
        except OSError:
            return None


def weigh(table: pl.DataFrame) -> int:
    """Characters of all texts of a table: near enough to what a judge's work on it is proportional to."""
    lengths = map(comparisons.characters, comparisons.TEXTS)
    return int(table.select(pl.sum_horizontal(lengths).sum()).item() or 0)
