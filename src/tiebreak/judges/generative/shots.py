"""Few-shot examples: votes that were decided already, as the model would have answered them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from tiebreak import comparisons
from tiebreak.comparisons import LABELS
from tiebreak.errors import BundleError, DataError
from tiebreak.judges.generative.verdicts import Verdicts
from tiebreak.render import Renderer

FILE: Final = "shots.json"
_ANSWER: Final = "TIEBREAK0PLACE0OF0THE0ANSWER"


class Shot(BaseModel):
    """One example: a vote, turn by turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: tuple[str | None, ...]
    response_a: tuple[str | None, ...]
    response_b: tuple[str | None, ...]
    label: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """From a row of a table of votes."""
        return cls(**{name: row[name] for name in (*comparisons.TEXTS, "label")})


def choose(votes: pl.DataFrame, count: int, seed: int) -> list[Shot]:
    """Examples from a table of votes: a, b and tie in turn, each drawn from the shorter half of its votes.

    Raises:
        DataError: There are no labels, or not enough votes.
    """
    if "label" not in votes.columns or votes["label"].drop_nulls().len() < count:
        raise DataError(
            f"{votes.height} votes for {count} examples", expected="a table of votes with labels, as many as examples"
        )
    lengths = pl.sum_horizontal(
        pl.col(name).list.join("", ignore_nulls=True).str.len_bytes().fill_null(0) for name in comparisons.TEXTS
    )
    ordered = votes.filter(pl.col("label").is_not_null()).with_columns(lengths.alias("_length")).sort("_length", "id")
    rng = np.random.default_rng(seed)
    pools = []
    for label in LABELS:
        rows = ordered.filter(pl.col("label") == label)
        half = rows.head(max(-(-rows.height // 2), -(-count // len(LABELS))))
        pools.append([half.row(int(i), named=True) for i in rng.permutation(half.height)])
    shots: list[Shot] = []
    while len(shots) < count:
        found = [pool.pop(0) for pool in pools if pool]
        if not found:
            raise DataError(f"too few votes for {count} examples", expected="more votes, or fewer --shot-count")
        shots += [Shot.of(row) for row in found]
    return shots[:count]


def table(shots: Sequence[Shot]) -> pl.DataFrame:
    """The examples as comparisons."""
    rows = [{"id": str(number), **shot.model_dump()} for number, shot in enumerate(shots)]
    return comparisons.validate(pl.DataFrame([{**row, **{n: list(row[n]) for n in comparisons.TEXTS}} for row in rows]))


def prefix(shots: Sequence[Shot], renderer: Renderer, verdicts: Verdicts) -> np.ndarray:
    """The tokens of all examples, each as it would be asked, with its verdict; int32.

    Args:
        shots: The examples, in order.
        renderer: At the length of one example.
        verdicts: Of a verdict, the first spelling is written.
    """
    if not shots:
        return np.zeros(0, dtype=np.int32)
    answers = dict(zip(LABELS, (getattr(verdicts, label)[0] for label in LABELS), strict=True))
    closing = _closing(renderer)
    parts: list[np.ndarray] = []
    for shot, ids in zip(shots, renderer.render(table(shots)).sequences, strict=True):
        said = renderer.tokenizer(f"{answers[shot.label]}{closing}", add_special_tokens=False)["input_ids"]
        parts += [without_beginning(ids, renderer) if parts else ids, np.array(said, dtype=np.int32)]
    return np.concatenate(parts)


def without_beginning(ids: np.ndarray, renderer: Renderer) -> np.ndarray:
    """A rendering without the token that begins a text, if it has one: what follows an example begins nothing."""
    tokenizer = renderer.tokenizer
    begins = tokenizer.bos_token_id
    if begins is None or not len(ids) or ids[0] != begins:
        return ids
    if _is_chat(renderer):  # in ChatML every turn begins with the token that also begins a text
        return ids[1:] if "bos_token" in tokenizer.get_chat_template() else ids
    return ids[1:] if tokenizer("a")["input_ids"][0] == begins else ids


def _is_chat(renderer: Renderer) -> bool:
    return renderer.template.chat and bool(getattr(renderer.tokenizer, "chat_template", None))


def _closing(renderer: Renderer) -> str:
    """What stands after the verdict of an example: the bracket that its suffix opened, and the end of the turn."""
    template, tokenizer = renderer.template, renderer.tokenizer
    bracket = "]]" if template.suffix.endswith("[[") else ""
    if not _is_chat(renderer):
        return f"{bracket}\n\n"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    whole: str = tokenizer.apply_chat_template(turns, tokenize=False)
    return bracket + whole.rpartition(_ANSWER)[2]


def dumps(shots: Sequence[Shot]) -> bytes:
    """As the bundle holds them."""
    return (json.dumps([shot.model_dump() for shot in shots], indent=1, ensure_ascii=False) + "\n").encode()


def read(directory: Path) -> list[Shot]:
    """From the bundle.

    Raises:
        BundleError: They are not there, or are no examples.
    """
    try:
        return [Shot.model_validate(entry) for entry in json.loads((directory / FILE).read_text(encoding="utf-8"))]
    except (OSError, ValueError, ValidationError) as error:
        raise BundleError(
            f"{directory / FILE}: no examples can be read ({error})", expected="what tiebreak wrote"
        ) from error
