"""What a judge has to read, and what its answers mean for the answer that attacks.

Every comparison is read in both orders. A judge that reads both answers in one sequence says what it thinks of one
order alone, and the mean of two such readings is what it says when it averages both: two figures for one price. A trick
that names a side (`[[A]]`) is written once for each side and each text is read in both orders, for its author knows at
most one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.attack.families import Family, Side, Turns
from tiebreak.calibration import Calibration

SIDES: Final[tuple[Side, Side]] = ("a", "b")
EITHER: Final = "ab"
"""A text that does not depend on where the answer stands is written for either side."""
CLEAN: Final = "clean"
FRAME: Final = ("p_win", "p_lose", "p_tie")
"""Probabilities seen from the attacked answer."""
KEY: Final = ("row", "family", "trick")


@dataclass(frozen=True)
class Read:
    """One comparison to be judged.

    Attributes:
        key: Row of the votes, family, trick, the sides its text was written for (`a`, `b` or `EITHER`), and the side on
            which the attacked answer stands.
        prompt: Turns of the prompt.
        first: Turns of the answer that is shown first.
        second: Turns of the other.
    """

    key: tuple[int, str, str, str, str]
    prompt: Turns
    first: Turns
    second: Turns


def clean(votes: pl.DataFrame) -> Iterator[Read]:
    """Every vote as it is and with its answers exchanged; the answer given as A is followed."""
    for row, (prompt, a, b) in enumerate(votes.select(comparisons.TEXTS).iter_rows()):
        yield Read((row, CLEAN, CLEAN, EITHER, "a"), prompt, a, b)
        yield Read((row, CLEAN, CLEAN, EITHER, "b"), prompt, b, a)


def attacked(
    votes: pl.DataFrame, targets: Sequence[Side], families: Sequence[Family], *, ordered: bool
) -> Iterator[Read]:
    """Every trick on every vote, as far as it applies.

    Args:
        votes: Validated comparisons.
        targets: Which answer of each vote attacks.
        families: What it tries.
        ordered: Whether the judge is asked about one order at a time: then each text is read in both.
    """
    for row, (texts, target) in enumerate(zip(votes.select(comparisons.TEXTS).iter_rows(), targets, strict=True)):
        prompt, own, rival = texts if target == "a" else (texts[0], texts[2], texts[1])
        for family, trick, written, changed in played(own, families):
            for stands in SIDES if ordered or written == EITHER else (written,):
                first, second = (changed, rival) if stands == "a" else (rival, changed)
                yield Read((row, family, trick, written, stands), prompt, first, second)


def played(own: Turns, families: Sequence[Family]) -> Iterator[tuple[str, str, str, Turns]]:
    """Every trick that applies to an answer: family, trick, the sides its text is written for, and the new turns."""
    for family in families:
        for trick in family.tricks:
            for side in SIDES if trick.names_side else SIDES[:1]:
                changed = trick.on(own, side)
                if changed is not None:
                    yield family.name, trick.name, side if trick.names_side else EITHER, changed


def tables(reads: Iterator[Read], size: int = 4096) -> Iterator[pl.DataFrame]:
    """The comparisons as validated tables of bounded size; the key of each is its id."""
    batch: list[Read] = []
    for read in reads:
        batch.append(read)
        if len(batch) == size:
            yield _table(batch)
            batch = []
    if batch:
        yield _table(batch)


def _table(batch: list[Read]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {
        "id": [json.dumps(read.key) for read in batch],
        "prompt": [read.prompt for read in batch],
        "response_a": [read.first for read in batch],
        "response_b": [read.second for read in batch],
    }
    types = {name: comparisons.SCHEMA[name] for name in columns}
    return comparisons.validate(pl.DataFrame(columns, schema=types), where="attacked votes")


def answers(judged: pl.DataFrame) -> pl.DataFrame:
    """Predictions of `tables`, seen from the attacked answer.

    Returns:
        `row, family, trick, written, stands`, `FRAME`, and `cut`: whether the judge did not see all of the answer.
    """
    keys = [json.loads(key) for key in judged["id"]]
    types = dict(zip((*KEY, "written", "stands"), (pl.Int64, *[pl.String] * 4), strict=True))
    found = pl.DataFrame(keys, schema=types, orient="row")
    p = predictions.probabilities(judged)
    first = (found["stands"] == "a").to_numpy()
    own, rival = np.where(first, p[:, 0], p[:, 1]), np.where(first, p[:, 1], p[:, 0])
    frame = dict(zip(FRAME, (own, rival, p[:, 2]), strict=True))
    return found.with_columns(**{name: pl.Series(values) for name, values in frame.items()}, cut=_cut(judged, first))


def _cut(judged: pl.DataFrame, first: np.ndarray) -> pl.Series:
    if not set(predictions.LEDGER) <= set(judged.columns):
        return judged["truncated"].rename("cut")
    short = [(judged[f"kept_{side}"] < judged[f"tokens_{side}"]).to_numpy() for side in SIDES]
    return pl.Series("cut", np.where(first, short[0], short[1]))


def verdicts(said: pl.DataFrame, calibration: Calibration | None, *, ordered: bool) -> pl.DataFrame:
    """What the judge says of each attempt, once as each kind of reader.

    Args:
        said: From `answers`, uncalibrated.
        calibration: Of the judge; applied after both orders were averaged, as the judge itself does.
        ordered: Whether these are readings of one order each.

    Returns:
        A row an attempt and reader: `KEY`, `orders` (`one`: the judge reads the order given; `both`: it averages both;
        `own`: as this judge reads), `position` (the side that the attacked answer stands on, or is written for),
        `FRAME`, `verdict` (win, lose, tie) and `cut`.
    """
    both_sides = pl.when(pl.col("written") == EITHER).then(pl.lit(list(SIDES))).otherwise(pl.concat_list("written"))
    tries = said.with_columns(position=both_sides).explode("position")
    one = tries.filter(pl.col("position") == pl.col("stands"))
    parts = [one.with_columns(orders=pl.lit("one" if ordered else "own"))]
    if ordered:
        mean = tries.group_by(*KEY, "position", maintain_order=True).agg(pl.col(FRAME).mean(), pl.col("cut").any())
        parts.append(mean.with_columns(orders=pl.lit("both")))
    columns = [*KEY, "orders", "position", *FRAME, "cut"]
    found = pl.concat([part.select(columns) for part in parts])
    p = found.select(FRAME).to_numpy()
    p = p if calibration is None or not len(p) else calibration.apply_equivariant(p)
    labels = np.array(["win", "lose", "tie"])[predictions.verdicts(p)] if len(p) else []
    return found.with_columns(
        **{name: pl.Series(column, dtype=pl.Float64) for name, column in zip(FRAME, p.T, strict=True)},
        verdict=pl.Series(labels, dtype=pl.String),
    )


def losers(votes: pl.DataFrame, found: pl.DataFrame) -> list[Side]:
    """The answer of each vote that the judge thinks the worse of: it has something to win.

    Args:
        votes: The votes.
        found: `verdicts` of the clean reading. What a judge that averages both orders says goes before one order.

    Returns:
        One a vote. Of answers that are drawn exactly, the one whose text comes first in the alphabet: whatever decides
        must not depend on which answer is A.
    """
    averaged = found.filter(pl.col("orders") != "one").group_by("row", maintain_order=True).agg(pl.col(FRAME).mean())
    given = averaged.sort("row")
    texts = votes.select("response_a", "response_b").iter_rows()
    sides: list[Side] = []
    for (a, b), p_a, p_b in zip(texts, given["p_win"], given["p_lose"], strict=True):
        drawn: Side = "a" if json.dumps(a) <= json.dumps(b) else "b"
        sides.append(drawn if p_a == p_b else "a" if p_a < p_b else "b")
    return sides


def seen_from(found: pl.DataFrame, targets: Sequence[Side]) -> pl.DataFrame:
    """The clean `verdicts`, which follow answer A, seen from the answer that attacks.

    Returns:
        `row, orders, position` and, with the suffix `_before`, `FRAME` and `verdict`.
    """
    exchanged = pl.Series([side == "b" for side in targets], dtype=pl.Boolean)[found["row"]]
    turned = found.with_columns(
        position=pl.when(exchanged).then(pl.col("position").replace({"a": "b", "b": "a"})).otherwise("position"),
        p_win=pl.when(exchanged).then("p_lose").otherwise("p_win"),
        p_lose=pl.when(exchanged).then("p_win").otherwise("p_lose"),
        verdict=pl.when(exchanged).then(pl.col("verdict").replace({"win": "lose", "lose": "win"}))
        .otherwise("verdict"),
    )  # fmt: skip
    return turned.select(
        "row", "orders", "position", *(pl.col(name).alias(f"{name}_before") for name in (*FRAME, "verdict"))
    )
