"""The answers of one chunk, turn by turn: a later turn follows on what the author itself had answered before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from tiebreak.judges.generative.backend import silent
from tiebreak.judges.generative.writing import Conversation, Sampling, Writer, Written
from tiebreak.teach.synthesizing.planning import ANSWERS, Chunk
from tiebreak.teach.synthesizing.prompts import Turns


def write(
    chunk: Chunk,
    prompts: Sequence[Turns],
    writer: Writer,
    sampling: Sampling,
    *,
    system: str = "",
    advance: Callable[[int], None] = silent,
) -> pl.DataFrame:
    """The answers of a chunk, as `planning.ANSWERS`.

    Args:
        chunk: Whose answers to which prompts.
        prompts: All prompts of the plan.
        writer: The model of the chunk's author.
        sampling: How a turn is written; the chunk says at which temperature and how many.
        system: A system text before each conversation.
        advance: Hears of finished answers.
    """
    how = replace(sampling, temperature=chunk.author.temperature, seed=_seed(sampling.seed, chunk.author.name))
    turns = [prompts[place] for place in chunk.places]
    first = writer.write(
        [_conversation(one[:1], [], system) for one in turns],
        replace(how, samples=chunk.count),
        advance=lambda count: advance(count * chunk.count),
    )
    written = [[[text] for text in texts] for texts in first]
    for turn in range(1, max(map(len, turns), default=0)):
        going = [(i, sample) for i, one in enumerate(turns) if len(one) > turn for sample in range(chunk.count)]
        talks = [_conversation(turns[i][: turn + 1], written[i][sample], system) for i, sample in going]
        for (i, sample), (text,) in zip(going, writer.write(talks, replace(how, samples=1)), strict=True):
            written[i][sample].append(text)
    rows = [
        _row(place, chunk, sample, texts)
        for place, samples in zip(chunk.places, written, strict=True)
        for sample, texts in enumerate(samples)
    ]
    return pl.DataFrame(rows, schema=ANSWERS, orient="row")


def _conversation(asked: Sequence[str], answered: Sequence[Written], system: str) -> Conversation:
    talk: list[tuple[str, str]] = [("system", system)] if system else []
    for place, text in enumerate(asked):
        talk.append(("user", text))
        if place < len(answered):
            talk.append(("assistant", answered[place].text))
    return talk  # type: ignore[return-value]  # the roles are literals


def _row(place: int, chunk: Chunk, sample: int, texts: Sequence[Written]) -> tuple[object, ...]:
    finished = all(text.finished for text in texts)
    return place, chunk.author.name, sample, [t.text for t in texts], finished, sum(t.tokens for t in texts)


def _seed(seed: int, author: str) -> int:
    """Of an author's own: two temperatures of one model should not draw alike."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{author}".encode()).digest()[:4])
