"""How many rows the tables of a flow have, and how long they are: counted where the files are here, else as assumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tiebreak.flow.node import Node
from tiebreak.flow.schema import Flow
from tiebreak.train.finetune.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

CHARACTERS: Final = 3.6
"""Characters of a token, about: what English prose and code have."""

FRAME: Final = 30
"""Tokens of a template's own words, about."""

SAMPLE: Final = 1000
"""Rows of which the length is looked at."""


@dataclass(frozen=True)
class Rows:
    """Sizes of the tables, before cleaning.

    Attributes:
        train: Votes in all folds together; None where nobody says.
        validation: Votes that choose among averages.
        test: Votes that nothing learns from.
        pairs: Of another source.
        pool: Rows without votes.
        folds: Parts of `train`.
        lengths: Uncut tokens of some votes; None where the files are not here.
        assumed: Tokens of a comparison as the flow states them.
        notes: What is counted and what is assumed, in plain words.
    """

    train: int | None
    validation: int | None
    test: int | None
    pairs: int | None
    pool: int | None
    folds: int
    lengths: np.ndarray | None
    assumed: float | None
    notes: tuple[str, ...] = ()

    @classmethod
    def expected(cls, flow: Flow) -> Self:
        """Count what is here; the rest is what `assume` says.

        Raises:
            DataError: A file is here and cannot be read.
        """
        data, assume, notes = flow.data, flow.assume, list[str]()
        votes, lengths = _counted("votes", data.votes, assume.votes, data.limit, notes)
        pairs, _ = _counted("pairs", data.pairs, assume.pairs, data.limit_pairs, notes)
        pool, _ = _counted("pool", data.pool, assume.pool, data.limit_pool, notes)
        shares = data.validation + (data.test if isinstance(data.test, float) else 0.0)
        if isinstance(data.test, float):
            test = None if votes is None else round(votes * data.test)
        else:
            test, _ = _counted("test", data.test, assume.test, None, notes)
        if assume.tokens is None and lengths is None:
            notes.append("assume.tokens is not stated: comparisons are taken to be as long as the recipes allow")
        return cls(
            train=None if votes is None else round(votes * (1 - shares)),
            validation=None if votes is None else round(votes * data.validation),
            test=test, pairs=pairs, pool=pool, folds=data.folds, lengths=lengths, assumed=assume.tokens,
            notes=tuple(notes),
        )  # fmt: skip

    def tokens(self, recipe: Recipe, longest: int | None = None) -> float:
        """Of a comparison on average, cut as the recipe cuts it (or at `longest`)."""
        most = longest or max(template.max_length for template in recipe.templates)
        if self.assumed is not None:
            return min(self.assumed, most)
        if self.lengths is None:
            return float(most)
        return float(self.lengths.clip(max=most).mean())

    def trained(self, node: Node, recipe: Recipe) -> tuple[int | None, int]:
        """Rows that a training learns from, and rows that it holds out."""
        if self.train is None:
            return None, 0
        if "--fold" in node.command:
            held = round(self.train / self.folds)
            mixed = any("stages/mix/" in word for word in node.command)
            return self.train - held + (self.pool or 0 if mixed else 0), held
        held = round(self.train * recipe.data.validation_share)
        return self.train - held, held

    def handled(self, node: Node) -> int | None:
        """Rows that a job without a network handles; None where that says nothing."""
        return self.train if node.stage in {"audit", "combine"} else None


def _counted(
    what: str, files: list[str], stated: int | None, limit: int | None, notes: list[str]
) -> tuple[int | None, np.ndarray | None]:
    """Rows of some files and lengths of some of them; stated rows win, so that a plan can be made for others."""
    lengths = None
    if stated is None and files:
        if all(Path(file).is_file() for file in files):
            tables = [_read(file) for file in files]
            stated = sum(table.height for table in tables)
            lengths = _lengths(tables[0])
            notes.append(f"{what}: {stated:,} rows counted")
        else:
            notes.append(f"{what}: the files are not here and assume.{what} is not stated: their jobs are not reckoned")
    elif files:
        notes.append(f"{what}: {stated:,} rows as stated")
    if stated is not None and limit is not None:
        stated = min(stated, limit)
    return (stated if files else 0), lengths


def _read(file: str) -> pl.DataFrame:
    from tiebreak import ingest

    return ingest.read(file)


def _lengths(table: pl.DataFrame) -> np.ndarray:
    """Uncut tokens of the first rows, guessed from their characters."""
    import polars as pl

    texts = pl.col("prompt", "response_a", "response_b").list.join("", ignore_nulls=True).str.len_chars()
    characters = table.head(SAMPLE).select(pl.sum_horizontal(texts)).to_series().to_numpy()
    tokens: np.ndarray = characters / CHARACTERS + FRAME
    return tokens
