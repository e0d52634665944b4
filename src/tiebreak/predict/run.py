"""One prediction run: comparisons stream in, finished parts pile up, the output appears at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl

import tiebreak
from tiebreak import storage
from tiebreak.errors import DataError
from tiebreak.judges import Judge
from tiebreak.predict import write
from tiebreak.predict.parts import Parts

CHUNK_ROWS: Final = 4096
"""Rows judged at a time: enough to keep every core busy, few enough that a stop loses a second of work."""

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What a run did.

    Attributes:
        rows: Predictions written.
        reused: Of these, the rows taken over from an interrupted run.
    """

    rows: int
    reused: int


def identity(inputs: Iterable[Path], judge: Judge, **settings: Any) -> str:
    """Fingerprint of everything that decides the output: bytes of the inputs, judge, settings, version."""
    document = {
        "inputs": [storage.sha256(path) for path in inputs],
        "judge": judge.manifest.model_dump(mode="json"),
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
    advance: Callable[[int], None] = lambda rows: None,
) -> Run:
    """Judge a stream of comparison tables and write the predictions, in order, to one file.

    Args:
        tables: Validated tables; their sizes do not matter.
        judge: The judge.
        output: File to write; it appears whole, at the end.
        form: One of `tiebreak.predict.FORMATS`.
        identity: From `identity`: parts of an interrupted run are reused only if it is the same.
        resume: Go on with an interrupted run.
        sample: A sample submission to hold a Kaggle submission against.
        chunk_rows: Rows judged and stored at a time.
        advance: Called with the number of rows after each chunk.

    Raises:
        UsageError: An interrupted run is in the way, or is another run's.
        DataError: A Kaggle submission would not be valid.
        ResourceError: The disk is full or the place cannot be written.
    """
    parts = Parts.begin(output, identity, resume=resume)
    count = rows = reused = 0
    try:
        for number, chunk in enumerate(ahead(chunks(tables, chunk_rows))):
            if parts.finished(number, chunk["id"]):
                reused += chunk.height
            else:
                parts.store(number, judge.predict(chunk))
            count, rows = number + 1, rows + chunk.height
            advance(chunk.height)
    except DataError:
        # The input itself is at fault: mended, it is another input, and these parts could never be used.
        parts.discard()
        raise
    table = parts.collect(count)
    write.write(table, output, form, sample)
    parts.discard()
    return Run(rows=rows, reused=reused)


def predict_stream(
    tables: Iterable[pl.DataFrame],
    judge: Judge,
    *,
    form: str,
    chunk_rows: int = CHUNK_ROWS,
    advance: Callable[[int], None] = lambda rows: None,
) -> Iterator[str]:
    """Judge a stream of comparison tables and give the predictions as text, piece by piece, for a pipe.

    Raises:
        UsageError: The format is parquet.
    """
    for number, chunk in enumerate(ahead(chunks(tables, chunk_rows))):
        yield write.text(judge.predict(chunk), form, header=number == 0)
        advance(chunk.height)


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
