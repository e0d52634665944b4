"""An attack from end to end: the votes as they are, then every trick on the answers that lost; resumable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import polars as pl

from tiebreak import judges, predict, row_hashes, storage
from tiebreak.attack import reading
from tiebreak.attack.families import Family, Side, fingerprint
from tiebreak.attack.reading import KEY, Read
from tiebreak.bundle import Manifest
from tiebreak.calibration import Calibration
from tiebreak.errors import UsageError
from tiebreak.judges import Judge, Runtime
from tiebreak.predict.progress import SILENT, Progress

ORDERED: Final = frozenset({"classifier", "generative"})
"""Kinds of judges that read both answers in one sequence, and so in an order."""
RUN: Final = "run.json"


@dataclass(frozen=True)
class Subject:
    """The judge under attack.

    Attributes:
        judge: Says what it says before calibration.
        calibration: To be applied afterwards, once both orders were averaged.
        ordered: Whether it judges the order given alone, and both orders are asked for one by one.
    """

    judge: Judge
    calibration: Calibration | None
    ordered: bool

    @classmethod
    def load(cls, directory: Path | None, runtime: Runtime) -> Self:
        """From a bundle. A judge that reads orders is asked for each, unless `runtime.swap` says how it is to read.

        Raises:
            UsageError: A choice of the runtime does not apply to this kind of judge.
            BundleError: The directory is no bundle.
        """
        judge = judges.load(directory, runtime)
        ordered = judge.kind in ORDERED and runtime.swap is None
        if ordered:
            judge.run_with(replace(runtime, swap="none"))
        return cls.of(judge, ordered=ordered)

    @classmethod
    def of(cls, judge: Judge, *, ordered: bool = False) -> Self:
        """A judge that was loaded already; its calibration is taken out of it."""
        calibration = judge.manifest.calibration
        judge.manifest = judge.manifest.model_copy(update={"calibration": None})
        return cls(judge, calibration, ordered)


@dataclass(frozen=True)
class Work:
    """The working folder of an attack, beside its output until that is written.

    Attributes:
        directory: The folder.
        identity: Fingerprint of votes, judge, tricks and settings.
        chunk_rows: Comparisons judged and stored at a time.
    """

    directory: Path
    identity: str
    chunk_rows: int

    @classmethod
    def begin(cls, output: Path, identity: str, *, resume: bool, chunk_rows: int) -> Self:
        """Start an attack, or go on with an interrupted one.

        Raises:
            UsageError: An interrupted one lies there and `resume` is false, or it was one of something else.
        """
        directory = output.with_name(f"{output.name}.run")
        # A run that was stopped before its first chunk left nothing to go on from, and is in nobody's way.
        recorded = _recorded(directory)
        if recorded is not None and not any(directory.glob("**/*.parquet")):
            shutil.rmtree(directory, ignore_errors=True)
            recorded = None
        if recorded is None:
            storage.make_directory(directory)
            storage.write_text(directory / RUN, json.dumps({"identity": identity}) + "\n")
        elif not resume:
            raise UsageError(
                f"{directory} holds an interrupted attack",
                expected="no unfinished run, or leave to go on with it",
                mend=f"the same command with --resume to go on, or rm -r {directory} to start anew",
            )
        elif recorded != identity:
            raise UsageError(
                f"{directory} belongs to an attack with another judge, other votes, tricks or settings",
                expected="the same files and options as before",
                mend=f"rm -r {directory}, then the same command without --resume",
            )
        return cls(directory, identity, chunk_rows)

    def judged(
        self, name: str, subject: Subject, reads: Callable[[], Iterator[Read]], progress: Progress, *, earlier: int = 0
    ) -> pl.DataFrame:
        """Answers to these comparisons, from an earlier run where it finished them.

        Args:
            name: Of this part of the attack.
            subject: The judge.
            reads: Gives the comparisons, as often as it is asked.
            progress: Hears of finished chunks, and how many comparisons there are in all.
            earlier: Comparisons of the parts before this one.
        """
        output = self.directory / f"{name}.parquet"
        count = sum(1 for _ in reads())
        progress.total(earlier + count)
        if output.is_file():
            progress.reuse(count)
        else:
            predict.predict_file(
                reading.tables(reads()), subject.judge, output, form="parquet", identity=f"{self.identity} {name}",
                resume=True, chunk_rows=self.chunk_rows, progress=progress,
            )  # fmt: skip
        return reading.answers(pl.read_parquet(output))

    def discard(self) -> None:
        """Remove the folder: the output holds what was in it."""
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass(frozen=True)
class Attacked:
    """What came of it.

    Attributes:
        votes: The votes.
        families: What was tried.
        targets: Which answer of each vote attacked.
        tries: A row an attempt and reader: `reading.verdicts` with what the judge said of the clean vote.
    """

    votes: pl.DataFrame
    families: tuple[Family, ...]
    targets: list[Side]
    tries: pl.DataFrame


def attack(
    subject: Subject,
    votes: pl.DataFrame,
    families: Sequence[Family],
    work: Work,
    progress: Progress = SILENT,
) -> Attacked:
    """Judge the votes as they are, then let the answer that lost try every trick.

    Args:
        subject: The judge.
        votes: Validated comparisons; labels are not needed.
        families: What to try.
        work: Where finished chunks are kept.
        progress: Hears of finished chunks.

    Raises:
        UsageError: Another process is at work in the same folder.
        ResourceError: The disk is full or the place cannot be written.
    """
    ordered = subject.ordered
    said = work.judged("clean", subject, lambda: reading.clean(votes), progress)
    untouched = reading.verdicts(said, subject.calibration, ordered=ordered)
    targets = reading.losers(votes, untouched)
    said = work.judged(
        "attacked", subject, lambda: reading.attacked(votes, targets, families, ordered=ordered), progress,
        earlier=said.height,
    )  # fmt: skip
    found = reading.verdicts(said, subject.calibration, ordered=ordered)
    tries = found.join(
        reading.seen_from(untouched, targets), on=["row", "orders", "position"], how="left", maintain_order="left"
    )
    return Attacked(votes, tuple(families), targets, tries.sort(*KEY, "orders", "position", maintain_order=True))


def identity(
    votes: pl.DataFrame, judge: Manifest, families: Sequence[Family], runtime: Mapping[str, object], chunk_rows: int
) -> str:
    """Fingerprint of everything that decides the output of an attack.

    Args:
        votes: The votes; their texts and ids count, their labels do not.
        judge: The manifest of the judge.
        families: What is tried.
        runtime: Choices that can change a probability.
        chunk_rows: Comparisons of a chunk.
    """
    return predict.identity(
        [], judge, votes=votes["id"].to_list(), texts=row_hashes.content(votes).to_list(),
        families=fingerprint(families), runtime=dict(runtime), chunk_rows=chunk_rows,
    )  # fmt: skip


def _recorded(directory: Path) -> str | None:
    """The identity of the attack that lies there; None where none does."""
    try:
        return str(json.loads((directory / RUN).read_text(encoding="utf-8"))["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
