"""What there is to write: chunks of one author's answers, named by all that decides them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from tiebreak import storage
from tiebreak.errors import UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.generative.writing import Sampling
from tiebreak.predict import scale
from tiebreak.teach.synthesizing.authors import Author, Model, authors, deal
from tiebreak.teach.synthesizing.pairing import Pairing
from tiebreak.teach.synthesizing.prompts import Prompts, Turns

ROWS: Final = {"cpu": 16, "cuda": 256}
"""Conversations of a chunk: what a stop can lose."""

ANSWERS: Final[dict[str, Any]] = {
    "prompt": pl.Int64(), "author": pl.String(), "sample": pl.Int64(), "answer": pl.List(pl.String()),
    "finished": pl.Boolean(), "tokens": pl.Int64(),
}  # fmt: skip
"""A row an answer: the place of its prompt, who wrote it, which of the author's, its turns, whether the model ended
each of them by itself, and its tokens."""


@dataclass(frozen=True)
class Chunk:
    """Some answers of one author: `count` to each of these prompts."""

    author: Author
    count: int
    places: tuple[int, ...]
    path: Path

    @property
    def answers(self) -> int:
        """How many there will be."""
        return self.count * len(self.places)

    def finished(self) -> pl.DataFrame | None:
        """The answers, if they are there and whole."""
        try:
            table = pl.read_parquet(self.path)
        except (pl.exceptions.PolarsError, OSError):
            return None
        return table if table.schema == pl.Schema(ANSWERS) and table.height == self.answers else None

    def store(self, table: pl.DataFrame) -> None:
        """Keep the answers, whole or not at all."""
        with storage.replacing(self.path) as aside:
            table.write_parquet(aside)


@dataclass(frozen=True)
class Plan:
    """One call.

    Attributes:
        prompts: To answer.
        models: In the order given.
        sampling: How each turn is written; `samples` and `temperature` are those of the chunks.
        pairing: How answers become pairs.
        runtime: How models run.
        system: A system text before each conversation; "" for none.
        chunks: All work, one model after another.
        output: The table of pairs.
        identity: Fingerprint of all that decides the answers.
    """

    prompts: Prompts
    models: tuple[Model, ...]
    sampling: Sampling
    pairing: Pairing
    runtime: Runtime
    system: str
    chunks: tuple[Chunk, ...]
    output: Path
    identity: str

    @property
    def work(self) -> Path:
        """The folder with what is done so far."""
        return beside(self.output)

    @property
    def answers(self) -> int:
        """To be written in all."""
        return sum(chunk.answers for chunk in self.chunks)


def beside(output: Path) -> Path:
    """Where the work on an output lies."""
    return output.with_name(f"{output.name}.run")


def plan(
    prompts: Prompts,
    models: Sequence[Model],
    output: Path,
    *,
    temperatures: Sequence[float] = (1.0,),
    answers: int = 2,
    sampling: Sampling | None = None,
    pairing: Pairing | None = None,
    system: str = "",
    runtime: Runtime | None = None,
) -> Plan:
    """See what there is to do. Weights are read for their digest; nothing is loaded or written.

    Args:
        prompts: From `prompts.choose`.
        models: That answer.
        output: The table of pairs (.parquet).
        temperatures: Each model answers at each of these.
        answers: A prompt gets in all, dealt to models and temperatures in turn.
        sampling: Tokens, nucleus, seed and stops of a turn.
        pairing: How answers become pairs.
        system: A system text before each conversation.
        runtime: Backend, devices, precision and lengths of models on this machine.

    Raises:
        UsageError: There are no prompts, fewer than two answers a prompt, or a model is not there.
    """
    if output.suffix != ".parquet":
        raise UsageError(f"-o {output}", expected="a .parquet file", mend=f"-o {output.stem}.parquet")
    if answers < 2:
        raise UsageError(f"{answers} answers a prompt", expected="at least 2: they are compared with each other")
    if not prompts.turns:
        raise UsageError("no prompts are left to answer", expected="at least one that is new")
    runtime, sampling, pairing = runtime or Runtime(), sampling or Sampling(), pairing or Pairing()
    writers, names = authors(models, temperatures), prompts.names
    identities = {model.name: model.spec.identity() for model in models}
    dealt: dict[tuple[Author, int], list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        for author, count in deal(name, writers, answers, sampling.seed).items():
            dealt[author, count].append(place)
    how = [sampling.max_tokens, sampling.top_p, sampling.seed, list(sampling.stop), system, _decisive(runtime)]
    chunks = [
        Chunk(author, count, tuple(part), _path(output, author, identities[author.model.name], how, count, turns))
        for author in writers
        for count in range(1, answers + 1)
        for part in _cut(dealt[author, count], ROWS[scale.device_kind(runtime.devices)])
        for turns in [[prompts.turns[place] for place in part]]
    ]
    identity = _digest([[chunk.path.stem for chunk in chunks], names])
    return Plan(prompts, tuple(models), sampling, pairing, runtime, system, tuple(chunks), output, identity)


def _decisive(runtime: Runtime) -> list[object]:
    """Choices that may change a text; 16 bits round otherwise on another device."""
    return [runtime.max_length, runtime.precision, runtime.backend, scale.device_kind(runtime.devices)]


def _path(output: Path, author: Author, identity: str, how: list[object], count: int, turns: list[Turns]) -> Path:
    name = _digest([author.name, author.temperature, identity, how, count, turns])[:24]
    return beside(output) / f"{name}.parquet"


def _cut(places: list[int], size: int) -> list[list[int]]:
    return [places[first : first + size] for first in range(0, len(places), size)]


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document).encode("utf-8", "surrogatepass")).hexdigest()
