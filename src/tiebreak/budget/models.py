"""What judging with a model costs: arithmetic and bytes, from its configuration or from a number of parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tiebreak import bundle
from tiebreak.budget import networks
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base
from tiebreak.train.finetune import shapes

PRECISIONS: Final = {
    "fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0 + 2 / 128, "awq-4": 0.5 + 2.5 / 128, "nf4": networks.NF4_BYTES,
}  # fmt: skip
"""Bytes of a weight of the linear layers; with few bits a scale (and of awq a zero point) for each 128."""

_COUNT: Final = re.compile(r"(\d+(?:\.\d+)?)([bm])", re.IGNORECASE)
_WIDTH_OF_A_BLOCK: Final = 128
"""Hidden width over blocks in decoders of all sizes (Llama, Qwen, Yi: 105 to 132)."""


@dataclass(frozen=True)
class Model:
    """A network.

    Attributes:
        name: As it was asked for.
        linear: Weights that every token is multiplied by.
        rest: Other weights: embeddings, norms, a vocabulary's head.
        blocks: How many there are.
        hidden: Width.
        inner: Width of the feed-forward layers.
        queries: Heads times their width.
        keys: Heads of keys and values times their width.
        vocabulary: Tokens.
        window: Tokens that it can read at most; None where it is not known.
        causal: Whether a token reads only those before it.
        attention: Products of the size of the attention scores that a block makes: two, of DeBERTa four.
    """

    name: str
    linear: int
    rest: int
    blocks: int
    hidden: int
    inner: int
    queries: int
    keys: int
    vocabulary: int
    window: int | None
    causal: bool
    attention: int = 2

    @classmethod
    def of(cls, name: str) -> Self:
        """The model of a shape that ships, a bundle, a checkpoint on this machine, or a count such as 34b.

        Raises:
            UsageError: It is none of these.
            DataError: The family is not known, or it is a judge without a network.
        """
        if found := _COUNT.fullmatch(name):
            return cls._counted(name, float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6))
        return cls.configured(name, _settings(name))

    @classmethod
    def configured(cls, name: str, settings: Mapping[str, Any]) -> Self:
        """From the fields of config.json.

        Raises:
            DataError: The family is not known.
        """
        network = networks.network(settings)
        if network is None:
            raise DataError(
                f"{name}: the family {settings.get('model_type')!r} is not known",
                expected="a shape, a family that tiebreak knows, or a number of parameters such as 7b",
            )
        heads, hidden = settings["num_attention_heads"], settings["hidden_size"]
        each = settings.get("head_dim") or hidden // heads
        causal = settings["model_type"] in networks.CAUSAL
        rest = network.base - network.blocks * network.block_linear
        if causal and not settings.get("tie_word_embeddings", settings["model_type"].startswith("gemma")):
            rest += network.embeddings
        return cls(
            name, network.blocks * network.block_linear, rest, network.blocks, hidden, settings["intermediate_size"],
            heads * each, (settings.get("num_key_value_heads") or heads) * each, settings["vocab_size"],
            settings.get("max_position_embeddings") if causal or settings["model_type"] == "bert" else None,
            causal, 4 if settings["model_type"] == "deberta-v2" else 2,
        )  # fmt: skip

    @classmethod
    def _counted(cls, name: str, parameters: float) -> Self:
        """A decoder of usual proportions: 12 hidden^2 weights a block, one block for each 128 of width."""
        hidden = round((parameters * _WIDTH_OF_A_BLOCK / 12) ** (1 / 3) / 128) * 128 or 128
        blocks = max(1, round(hidden / _WIDTH_OF_A_BLOCK))
        vocabulary = min(128_000, round(parameters / 10 / hidden))
        rest = 2 * vocabulary * hidden
        keys = min(hidden, 1024)
        linear = round(parameters) - rest
        return cls(name, linear, rest, blocks, hidden, round(2.75 * hidden), hidden, keys, vocabulary, None, True)

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear + self.rest

    def weight_bytes(self, precision: str) -> float:
        """Of all weights; in few bits the linear layers alone are held, the rest in 16."""
        return self.linear * PRECISIONS[precision] + self.rest * max(2.0, PRECISIONS[precision])

    @property
    def cache_bytes(self) -> int:
        """Of keys and values of one token, in 16 bits; nothing for an encoder."""
        return 2 * self.blocks * self.keys * 2 if self.causal else 0

    def operations(self, tokens: float, squares: float, sequences: float, *, verdicts: bool) -> float:
        """Of reading sequences.

        Args:
            tokens: In all.
            squares: Sum of the squares of their lengths.
            sequences: How many.
            verdicts: Whether each ends in logits of the whole vocabulary.
        """
        scores = 2.0 * self.attention * squares * self.queries * self.blocks * (0.5 if self.causal else 1.0)
        return (
            2.0 * self.linear * tokens + scores + (2.0 * self.vocabulary * self.hidden * sequences if verdicts else 0)
        )


def _settings(name: str) -> Mapping[str, Any]:
    place = Path(name)
    if (place / bundle.MANIFEST).is_file():
        return _of_bundle(place)
    base = Base(name="shape", shape=name) if name in shapes.names() else Base(name=name)
    found = shapes.settings(base)
    if found is None:
        raise UsageError(
            f"model {name!r}",
            expected="a judge bundle, a model on this machine, a count such as 34b, or one of "
            + ", ".join(shapes.names()),
        )
    return found


def _of_bundle(place: Path) -> Mapping[str, Any]:
    own = place / "config.json"
    if own.is_file():
        fields: dict[str, Any] = json.loads(own.read_text(encoding="utf-8"))
        return fields
    base = bundle.read(place).settings.get("base")
    found = shapes.settings(Base.model_validate(base)) if isinstance(base, dict) else None
    if found is None:
        raise DataError(f"{place}: a judge without a network, or its base is not on this machine", expected="one with")
    return found
