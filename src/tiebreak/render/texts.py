"""User text -> token ids, many texts at a time, such that no text can yield a special token.

`split_special_tokens=True` of transformers is not enough: it leaves alone the added tokens that are not flagged
special (6,405 of Gemma 3, Qwen 3's `<think>` and `<tool_call>`), and a piece of the vocabulary itself may be a special
token (`[CLS]` of a Unigram vocabulary). Here a second tokenizer shares the model, the normaliser and the
pre-tokeniser of the one given, and knows no added tokens at all; where the model could still make one by itself, it
makes it no more.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tiebreak.errors import TiebreakError, UsageError

if TYPE_CHECKING:  # a recipe names templates without the extra that brings tokenizers
    from tokenizers import Tokenizer

NONCHARACTER: Final = "\U0010ffff"
"""In no vocabulary: what a model makes of it is what it makes of anything that it cannot write."""

BATCH_CHARS: Final = 4_000_000
"""Characters tokenised at once: bounds what the tokenizer's own objects hold (some 100 bytes a token)."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of several texts; equal texts share theirs.

    Attributes:
        ids: int32 of shape (tokens,).
        starts: int64, a text: where its tokens begin in `ids`.
        lengths: int64, a text: how many they are.
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


class Texts:
    """Tokenises user text.

    Args:
        tokenizer: A fast tokenizer of transformers.

    Raises:
        UsageError: The tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UsageError(
                f"{type(tokenizer).__name__} is not a fast tokenizer",
                expected="a tokenizer with a tokenizer.json, or one that transformers converts",
                mend="AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
            )
        self.forbidden = forbidden_ids(tokenizer)
        self._plain = type(backend)(_disarmed(backend, self.forbidden))
        for part in ("normalizer", "pre_tokenizer"):
            if (value := getattr(backend, part)) is not None:
                setattr(self._plain, part, value)
        self._guard = np.zeros(max(self.forbidden, default=0) + 1, dtype=bool)
        self._guard[list(self.forbidden)] = True

    def encode(self, texts: Sequence[str]) -> Tokens:
        """The tokens of each text, without special tokens.

        Args:
            texts: Any strings; a lone surrogate, which no file can hold, becomes a replacement character.
        """
        places: dict[str, int] = {}
        index = np.fromiter((places.setdefault(text, len(places)) for text in texts), dtype=np.int64, count=len(texts))
        parts, lengths = [], []
        for batch in _batches(list(places)):
            encoded = self._plain.encode_batch_fast(batch, add_special_tokens=False)
            ids = [one.ids for one in encoded]
            sizes = [len(one) for one in ids]
            parts.append(np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=sum(sizes)))
            lengths += sizes
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        self._check(flat)
        size = np.array(lengths, dtype=np.int64)
        return Tokens(flat, (np.cumsum(size) - size)[index], size[index])

    def _check(self, ids: np.ndarray) -> None:
        """The promise is kept by construction; this makes sure of it on every token, at some 1 ns each."""
        if len(ids) and self._guard[np.minimum(ids, len(self._guard) - 1)][ids < len(self._guard)].any():
            raise TiebreakError(
                "the tokenizer made a special token from a user's text", expected="none; please report this tokenizer"
            )


def forbidden_ids(tokenizer: Any) -> frozenset[int]:
    """The ids that user text must never yield: special tokens and added tokens.

    Two kinds are left out. The model's own token for what its vocabulary cannot write: any rare character yields it, so
    nothing can be imitated with it. And added tokens that are blanks only (Gemma's runs of newlines and spaces):
    they are how such a model reads blank lines and indented code.
    """
    backend = tokenizer.backend_tokenizer
    added = {
        i: token.content
        for i, token in backend.get_added_tokens_decoder().items()
        if token.content.replace("▁", " ").strip()
    }
    unwritable = {token.id for token in backend.model.tokenize(NONCHARACTER)}
    return frozenset({*added, *tokenizer.all_special_ids} - unwritable)


def _batches(texts: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    chars = 0
    for text in texts:
        batch.append(text if text.isascii() else _whole(text))
        chars += len(text)
        if chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _disarmed(backend: Tokenizer, forbidden: frozenset[int]) -> Any:
    """The tokenizer's model, unable to make a forbidden token.

    A model makes a piece inside a longer text only if it makes it from the piece alone: merges of BPE that stay within
    the piece, the best path of a Unigram, the longest match of WordPiece do not depend on what stands around. So it
    is enough to ask the model about every forbidden piece; most models make none of them and are shared as they are.
    """
    model = backend.model
    pieces = {i: model.id_to_token(i) for i in forbidden}  # null where only the list of added tokens knows the id
    makes = {piece for i, piece in pieces.items() if piece and any(token.id == i for token in model.tokenize(piece))}
    if not makes:
        return model
    whole = json.loads(backend.to_str())
    whole |= {"model": _renamed(whole["model"], makes)}
    whole |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return type(backend).from_str(json.dumps(whole)).model


def _renamed(model: dict[str, Any], pieces: set[str]) -> dict[str, Any]:
    """The model with other names for these pieces: a random one each, so that no text can spell it."""
    names = {piece: f"{secrets.token_hex(16)} {place}" for place, piece in enumerate(sorted(pieces))}
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        renamed: Any = {names.get(piece, piece): i for piece, i in vocabulary.items()}
    else:
        renamed = [[names.get(piece, piece), score] for piece, score in vocabulary]
    changed = {**model, "vocab": renamed}
    if "merges" in model:
        pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
        changed["merges"] = [pair for pair in pairs if not pieces & {*pair, "".join(pair)}]
    return changed
