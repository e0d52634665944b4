"""Answers -> comparisons: which are set against each other, on which side each stands, and what is dropped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from tiebreak import comparisons, prepare
from tiebreak.teach.synthesizing.prompts import Turns

SOURCE = "synthesized"
"""`source` of a row that was made here."""


@dataclass(frozen=True)
class Pairing:
    """How answers become pairs.

    Attributes:
        pairs: Of a prompt at most, drawn by the seed; None takes all.
        unfinished: Keep answers that the limit of tokens cut off.
        seed: Of the draw and of the sides.
    """

    pairs: int | None = None
    unfinished: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Paired:
    """Pairs, and what became of the rest.

    Attributes:
        table: Comparisons without labels; `model_a` and `model_b` say who wrote: NAME@T=TEMPERATURE#SAMPLE.
        answers: How many answers there were.
        dropped_answers: By reason.
        pairs: How many pairs of the answers that stayed were formed.
        dropped_pairs: By reason.
        prompts: How many prompts have a pair.
    """

    table: pl.DataFrame
    answers: int
    dropped_answers: dict[str, int]
    pairs: int
    dropped_pairs: dict[str, int]
    prompts: int


def pair(
    prompts: Sequence[Turns],
    names: Sequence[str],
    answers: pl.DataFrame,
    how: Pairing,
    exclude: Mapping[str, pl.DataFrame] | None = None,
) -> Paired:
    """Make comparisons of answers.

    Args:
        prompts: The turns of each prompt.
        names: Of each prompt.
        answers: As `planning.ANSWERS`.
        how: Pairs, sides, unfinished answers.
        exclude: Comparisons by name that must stay unseen: pairs that stand there are dropped.
    """
    fate = answers.select(
        pl.when(pl.col("answer").list.eval(pl.element().str.strip_chars() == "").list.any()).then(pl.lit("empty"))
        .when(~pl.col("finished") & (not how.unfinished)).then(pl.lit("cut off by the limit of tokens"))
    ).to_series()  # fmt: skip
    dropped = Counter(reason for reason in fate if reason is not None)
    kept = answers.filter(fate.is_null()).sort("prompt", "author", "sample")
    rows = [
        _row(prompts[place], names[place], one, other, how.seed)
        for (place,), group in kept.group_by("prompt", maintain_order=True)
        for one, other in _drawn(names[int(str(place))], group.rows(named=True), how)
    ]
    table = comparisons.validate(pl.DataFrame(rows, schema=_SCHEMA, orient="row"))
    made, lost = table.height, {}
    table, report = prepare.clean(table, both_empty="drop", empty="drop", identical="drop")
    lost["identical answers"] = report.dropped["identical"]
    for name, known in (exclude or {}).items():
        left = prepare.overlap(known, table).drop(table) if table.height else table
        lost[f"there in {name}"] = table.height - left.height
        table = left
    if table.height:
        table, copies = prepare.dedupe(table, near=False)
        lost["the same as another pair"] = len(copies.dropped)
    lost = {reason: count for reason, count in lost.items() if count}
    return Paired(table, answers.height, dict(dropped), made, lost, table["prompt"].n_unique())


_SCHEMA = {
    name: comparisons.SCHEMA[name]
    for name in ("id", "prompt", "response_a", "response_b", "model_a", "model_b", "source")
}


def _drawn(
    prompt: str, answers: Sequence[dict[str, object]], how: Pairing
) -> list[tuple[dict[str, object], dict[str, object]]]:
    """All pairs of a prompt's answers, or so many of them by lot."""
    found = list(combinations(answers, 2))
    if how.pairs is None or len(found) <= how.pairs:
        return found
    lots = sorted(found, key=lambda two: _digest(how.seed, "pair", prompt, *map(_author, two)))
    chosen = lots[: how.pairs]
    return [two for two in found if two in chosen]


def _row(turns: Turns, prompt: str, one: dict[str, object], other: dict[str, object], seed: int) -> tuple[object, ...]:
    names = _author(one), _author(other)
    a, b = (one, other) if _digest(seed, "side", prompt, *names)[0] % 2 else (other, one)
    name = _digest(0, "id", prompt, *names).hex()[:16]
    return name, list(turns), a["answer"], b["answer"], _author(a), _author(b), SOURCE


def _author(answer: dict[str, object]) -> str:
    return f"{answer['author']}#{answer['sample']}"


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
