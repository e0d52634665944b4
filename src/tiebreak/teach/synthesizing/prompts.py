"""Prompts out of whatever holds some: votes, a pool, a list; each once, and none that must stay unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from tiebreak import comparisons, ingest, prepare
from tiebreak.errors import DataError

_ANSWERS: Final = {
    "response_a",
    "response_b",
    "answer_a",
    "answer_b",
    "chosen",
    "rejected",
    "conversation_a",
    "messages",
}
"""Columns by which a table of votes is told from a list of prompts."""

Turns = tuple[str, ...]


@dataclass
class Prompts:
    """Prompts to answer.

    Attributes:
        turns: What the person wrote, turn by turn, one entry a prompt.
        found: How many there were.
        dropped: By reason, how many were left out.
    """

    turns: list[Turns]
    found: int
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """A short name of each prompt, from its words alone."""
        return [hashlib.sha256(json.dumps(one).encode("utf-8", "surrogatepass")).hexdigest()[:16] for one in self.turns]


def read(paths: Sequence[Path], *, format: str = "auto", mapping: Mapping[str, str] | None = None) -> list[Turns]:
    """The prompts of files, in order.

    Args:
        paths: `.txt`: one prompt a line. `.csv`, `.jsonl` or `.parquet` with a column `prompt` and no answers: a text,
            or a list of texts, one a turn. Anything else: votes in any format that `tiebreak data import` reads.
        format: Of votes.
        mapping: Our column -> theirs; `prompt` names the column of a list too.

    Raises:
        DataError: A file cannot be read.
    """
    return [turns for path in paths for turns in _read(path, format, mapping or {})]


def choose(
    turns: Sequence[Turns],
    *,
    exclude: Mapping[str, pl.DataFrame] | None = None,
    limit: int | None = None,
    max_turns: int = 1,
    near: bool = True,
) -> Prompts:
    """Leave out what is empty, there twice, or asked in a table that must stay unseen.

    Args:
        turns: Of each prompt.
        exclude: Comparisons by name.
        limit: The first so many of those that stay.
        max_turns: The first so many turns of each; later ones answer an answer that was another.
        near: Near-duplicates of excluded prompts go too.
    """
    made = Prompts([one[:max_turns] for one in turns], len(turns))
    _keep(made, [any(text.strip() for text in one) for one in made.turns], "empty")
    keys = [tuple(map(prepare.normalise, one)) for one in made.turns]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    _keep(made, [first[key] == place for place, key in enumerate(keys)], "the same as another")
    for name, table in (exclude or {}).items():
        known = set(prepare.overlap(_questions(table), _table(made.turns), near=near).rows)
        _keep(made, [place not in known for place in range(len(made.turns))], f"asked in {name}")
    if limit is not None:
        _keep(made, [place < limit for place in range(len(made.turns))], f"over the first {limit:,}")
    return made


def _keep(prompts: Prompts, kept: Sequence[bool], reason: str) -> None:
    if not all(kept):
        prompts.dropped[reason] = len(kept) - sum(kept)
    prompts.turns = [one for one, stays in zip(prompts.turns, kept, strict=True) if stays]


def _table(turns: Sequence[Turns]) -> pl.DataFrame:
    """Comparisons with empty answers, which are like nothing."""
    empty = [[""] * len(one) for one in turns]
    return comparisons.validate(
        pl.DataFrame(
            {
                "id": [str(i) for i in range(len(turns))],
                "prompt": [list(one) for one in turns],
                "response_a": empty,
                "response_b": empty,
            },
            schema_overrides=dict.fromkeys(comparisons.TEXTS, comparisons.TURNS) | {"id": pl.String},
        )
    )


def _questions(table: pl.DataFrame) -> pl.DataFrame:
    """The prompts of excluded rows, whole and their first turns, which a prompt of one turn may be."""
    whole = comparisons.validate(table).select("prompt").unique(maintain_order=True)["prompt"].to_list()
    texts = [tuple(text or "" for text in one) for one in whole]
    return _table(list(dict.fromkeys([*texts, *(one[:1] for one in texts)])))


def _read(path: Path, format: str, mapping: Mapping[str, str]) -> Iterator[Turns]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file", expected="a file of prompts or votes")
    if path.suffix == ".txt":
        yield from ((line,) for line in path.read_text(encoding="utf-8").splitlines())
        return
    column = mapping.get("prompt", "prompt")
    table = _listed(path) if format == "auto" else None
    if table is not None and column in table.columns and not _ANSWERS & set(table.columns):
        yield from (_turns(cell) for cell in table[column])
        return
    votes = ingest.read(path, format=format, mapping=mapping)
    yield from (_turns(cell) for cell in votes["prompt"])


def _listed(path: Path) -> pl.DataFrame | None:
    readers: dict[str, Any] = {
        ".csv": lambda: pl.read_csv(path, infer_schema=False),
        ".parquet": lambda: pl.read_parquet(path),
        ".jsonl": lambda: pl.read_ndjson(path),
        ".ndjson": lambda: pl.read_ndjson(path),
    }
    try:
        return readers[path.suffix]() if path.suffix in readers else None
    except (pl.exceptions.PolarsError, OSError):
        return None


def _turns(cell: Any) -> Turns:
    if cell is None or isinstance(cell, str):
        return (cell or "",)
    return tuple(str(text or "") for text in cell)
