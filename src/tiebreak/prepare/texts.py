"""When two texts count as the same: normalised texts, and the keys by which rows meet.

Two texts are the same when they agree after NFKC, case folding and collapsing of white space, over all turns. A null is
an empty text. A pair of answers has no order: its key does not change when A and B change sides.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Final

import polars as pl

TURN: Final = "\x1f"
SIDE: Final = "\x1e"
"""Separators. `str.split` takes both for white space, so that no normalised text holds one."""

_OPENING: Final = 20
"""An opening line shorter than this (in characters) does not stand for a missing prompt."""
_CHUNK: Final = 5_000

Turns = Sequence[str | None] | None


def normalise(text: str | None) -> str:
    """One text as it is compared: NFKC, case-folded, white space collapsed and stripped; null is empty."""
    if text is None:
        return ""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def digest(text: str) -> str:
    """A short name for a text, the same on every machine and in every version."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def normalised(frame: pl.DataFrame) -> pl.DataFrame:
    """Normalised texts as columns `prompt`, `a`, `b` and `asked`; turns joined, without any text an empty string.

    `asked` is the prompt; where that is empty and answers open with the question (transcripts whose prompt was not
    split off), it is their opening line, if some row has that line at the head of both its answers.
    """
    sources = {"prompt": "prompt", "a": "response_a", "b": "response_b"}
    schema = dict.fromkeys(sources, pl.String())
    parts = [
        pl.DataFrame({name: map(_joined, part[source].to_list()) for name, source in sources.items()}, schema)
        for part in frame.select(sources.values()).iter_slices(_CHUNK)
    ]
    table = pl.concat(parts) if parts else pl.DataFrame(schema=schema)
    asked = table["prompt"].alias("asked").clone()
    empty = (asked == "").arg_true()
    if len(empty):
        asked = asked.scatter(empty, _openings(frame.select("response_a", "response_b")[empty.to_list()]))
    return table.with_columns(asked)


def _joined(turns: Turns) -> str:
    texts = [normalise(text) for text in turns or ()]
    return TURN.join(texts) if any(texts) else ""


def _openings(answers: pl.DataFrame) -> list[str]:
    lines = [(_opening(a), _opening(b)) for a, b in answers.iter_rows()]
    shared = {a for a, b in lines if a == b and len(a) >= _OPENING}
    return [next((line for line in pair if line in shared), "") for pair in lines]


def _opening(turns: Turns) -> str:
    first = next((text for text in turns or () if text and not text.isspace()), "")
    return normalise(first.lstrip().split("\n", 1)[0])


def keys(texts: pl.DataFrame) -> pl.DataFrame:
    """The keys by which rows meet, made from `normalised` texts.

    Returns:
        `prompt`: digest of what was asked, null where nothing is known of it. `pair`: digest of the unordered answer
        pair, null where both are empty. `row`: digest of prompt and pair together, never null. `side`: 1 or -1 says
        which way round the pair stands in that order, 0 that both answers are the same.
    """
    rows = [_row_keys(*row) for row in texts.select("prompt", "asked", "a", "b").iter_rows()]
    schema = {"prompt": pl.String(), "pair": pl.String(), "row": pl.String(), "side": pl.Int8()}
    return pl.DataFrame(rows, schema, orient="row")


def _row_keys(prompt: str, asked: str, a: str, b: str) -> tuple[str | None, str | None, str, int]:
    pair = digest(SIDE.join(sorted((a, b))))
    return (
        digest(asked) if asked else None,
        pair if a or b else None,
        digest(digest(prompt) + pair),
        (a < b) - (a > b),
    )
