"""One prediction run: comparisons stream in, finished parts pile up, the output appears at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import polars as pl

import tiebreak
from tiebreak import storage
from tiebreak.bundle import Manifest
from tiebreak.errors import DataError
from tiebreak.judges import Judge
from tiebreak.predict import write
from tiebreak.predict.forms import LMSYS, Submission
from tiebreak.predict.parts import Parts
from tiebreak.predict.progress import SILENT, Progress, tokens

CHUNK_ROWS: Final = 4096
"""Rows judged at a time by a quick judge: enough for every core, few enough that a stop loses a second of work."""

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What a run did.

    Attributes:
        rows: Predictions written.
        reused: Of these, the rows taken over from an interrupted run.
        truncated: Rows in which text was cut.
        tokens: Tokens of all texts, from a judge that counts them, else 0.
        kept: Of these, the tokens that the judge saw.
        retried: Chunks that a second worker had to do because the first one died.
        otherwise: Of the rows, those answered by the cheaper judge, because the other did not get to them.
        reason: Why it did not.
        spans: Which rows these are: first and last of each stretch, counted from 1.
    """

    rows: int
    reused: int
    truncated: int = 0
    tokens: int = 0
    kept: int = 0
    retried: int = 0
    otherwise: int = 0
    reason: str = ""
    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, table: pl.DataFrame, *, reused: int, retried: int = 0) -> Self:
        """What the finished table says about the run."""
        return cls(
            rows=table.height, reused=reused, truncated=int(table["truncated"].sum()),
            tokens=tokens(table, "tokens"), kept=tokens(table, "kept"), retried=retried,
        )  # fmt: skip


def identity(inputs: Iterable[Path], judge: Manifest, **settings: Any) -> str:
    """Fingerprint of everything that decides the output: bytes of the inputs, judge, settings, version."""
    document = {
        "inputs": [storage.sha256(path) for path in inputs],
        "judge": judge.model_dump(mode="json"),
        "settings": settings,
        "version": tiebreak.__version__,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def predict_file(
    tables: Iterable[pl.DataFrame],
    judge: Judge,
    output: Path,
    *,
    form: str,
    identity: str,
    resume: bool = False,
    sample: Path | None = None,
    chunk_rows: int = CHUNK_ROWS,
    progress: Progress = SILENT,
    kaggle: Submission | None = None,
) -> Run:
    """Judge a stream of comparison tables in this process and write the predictions, in order, to one file.

    Args:
        tables: Validated tables; their sizes do not matter.
        judge: The judge.
        output: File to write; it appears whole, at the end.
        form: One of `tiebreak.predict.FORMATS`.
        identity: From `identity`: parts of an interrupted run are reused only if it is the same.
        resume: Go on with an interrupted run.
        sample: A sample submission to hold a Kaggle submission against.
        chunk_rows: Rows judged and stored at a time.
        progress: Hears of every finished chunk.
        kaggle: The form of a Kaggle submission, where it is not that of the sample.

    Raises:
        UsageError: An interrupted run is in the way, is another run's, or is being worked on.
        DataError: A Kaggle submission would not be valid.
        ResourceError: The disk is full or the place cannot be written.
    """
    with Parts.begin(output, identity, resume=resume, chunk_rows=chunk_rows) as parts:
        source = Source(tables)
        count = reused = 0
        warned = False
        try:
            for number, chunk in enumerate(ahead(chunks(source, chunk_rows))):
                kept = parts.finished(number, chunk["id"])
                table = judge.predict(chunk) if kept is None else kept
                if kept is None:
                    parts.store(number, table)
                    warned = tell(judge, progress, warned)
                else:
                    reused += chunk.height
                count = number + 1
                progress.chunk(table, judged=kept is None)
        except DataError:
            if source.at_fault:
                parts.discard()
            raise
        return finish(parts, count, output, form, sample, reused=reused, kaggle=kaggle)


def tell(judge: Judge, progress: Progress, warned: bool) -> bool:
    """Pass on what the judge warns of, once a run; gives whether that was done."""
    if not warned:
        for text in judge.warnings:
            progress.note(text)
    return warned or bool(judge.warnings)


class Source:
    """The tables of the input, which remembers whether it was the input that failed.

    A mended input is another input, and parts of the faulty one could never be used. Of any other fault parts are kept.
    """

    def __init__(self, tables: Iterable[pl.DataFrame]) -> None:
        self.tables = tables
        self.at_fault = False

    def __iter__(self) -> Iterator[pl.DataFrame]:
        try:
            yield from self.tables
        except DataError:
            self.at_fault = True
            raise


def finish(
    parts: Parts, count: int, output: Path, form: str, sample: Path | None, *, reused: int, retried: int = 0,
    kaggle: Submission | None = None,
) -> Run:  # fmt: skip
    """Turn the parts into the output."""
    table = parts.collect(count)
    write.write(table, output, form, sample, kaggle)
    parts.discard()
    return Run.of(table, reused=reused, retried=retried)


def predict_stream(
    tables: Iterable[pl.DataFrame],
    judge: Judge,
    *,
    form: str,
    chunk_rows: int = CHUNK_ROWS,
    progress: Progress = SILENT,
    kaggle: Submission = LMSYS,
) -> Iterator[str]:
    """Judge a stream of comparison tables and give the predictions as text, piece by piece, for a pipe.

    Raises:
        UsageError: The format is parquet.
    """
    warned = False
    for number, chunk in enumerate(ahead(chunks(tables, chunk_rows))):
        table = judge.predict(chunk)
        warned = tell(judge, progress, warned)
        yield write.text(table, form, header=number == 0, kaggle=kaggle)
        progress.chunk(table)


def chunks(tables: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Cut a stream of tables anew into tables of exactly `rows` rows, the last one shorter.

    The cuts must not depend on how the reader happened to batch, or a resumed run would see other chunks.
    """
    held: list[pl.DataFrame] = []
    height = 0
    for table in tables:
        held.append(table)
        height += table.height
        while height >= rows:
            whole = pl.concat(held)
            yield whole.head(rows)
            held, height = [whole.slice(rows)], height - rows
    if height:
        yield pl.concat(held)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a second thread while the one before is in use."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
