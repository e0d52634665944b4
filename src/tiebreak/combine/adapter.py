"""A low-rank adapter as algebra: for each module two factors and a scale, and the tensors that are kept whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tiebreak.errors import DataError
from tiebreak.judges.model import ADAPTER, ADAPTER_CONFIG

PREFIX: Final = "base_model.model."
"""What peft puts before the name of every module."""

_A: Final = ".lora_A.weight"
_B: Final = ".lora_B.weight"
_REBASING: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the weights below the adapter, which then is none of that base."""


@dataclass(frozen=True)
class Factors:
    """The change that an adapter makes to one linear module: `scale * b @ a` is added to its weight.

    Attributes:
        a: float32 (r, inputs).
        b: float32 (outputs, r).
        scale: alpha / r, or alpha / sqrt(r) where the adapter is rank-stabilised.
    """

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Rows of `a`."""
        return self.a.shape[0]

    def delta(self) -> Tensor:
        """The change, float64 (outputs, inputs)."""
        return self.scale * (self.b.double() @ self.a.double())


@dataclass(frozen=True)
class Adapter:
    """An adapter with the layers that were trained in full beside it.

    Attributes:
        factors: By the name of the module in the model of transformers.
        kept: Head and whatever else is whole, by the name in the file.
        document: `adapter_config.json`.
    """

    factors: dict[str, Factors]
    kept: dict[str, Tensor]
    document: dict[str, Any]

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(one.rank for one in self.factors.values())


def read(folder: Path) -> Adapter:
    """Read an adapter as peft writes it.

    Raises:
        DataError: It is no plain LoRA adapter (DoRA, trained biases, embeddings, or a base changed at initialisation),
            or a file cannot be read.
    """
    try:
        document = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        stored = load_file(folder / ADAPTER)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"{folder}: the adapter cannot be read ({error})", expected=f"{ADAPTER}, {ADAPTER_CONFIG}"
        ) from error
    _check_plain(document, folder)
    names = {name.removeprefix(PREFIX).removesuffix(_A) for name in stored if name.endswith(_A)}
    factors = {name: _factors(name, stored, document, folder) for name in sorted(names)}
    kept = {name: stored[name] for name in sorted(stored) if not name.endswith((_A, _B))}
    if odd := [name for name in kept if ".lora_" in name]:
        raise DataError(
            f"{folder}: {odd[0]} is no factor of a linear module",
            expected="LoRA on linear modules, without DoRA and biases",
        )
    if not factors:
        raise DataError(f"{folder}: the adapter changes no module", expected="tensors called ...lora_A.weight")
    return Adapter(factors, kept, document)


def write(adapter: Adapter, folder: Path) -> None:
    """Write an adapter into a folder as peft reads it. The same adapter gives the same bytes."""
    stored = dict(adapter.kept)
    for name, one in adapter.factors.items():
        stored |= {f"{PREFIX}{name}{_A}": one.a, f"{PREFIX}{name}{_B}": one.b}
    save_file({name: stored[name].contiguous() for name in sorted(stored)}, folder / ADAPTER, metadata={"format": "pt"})
    text = json.dumps(adapter.document, indent=1, sort_keys=True)
    (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def configured(document: Mapping[str, Any], factors: Mapping[str, Factors]) -> dict[str, Any]:
    """The configuration under which peft gives each module its rank and its scale.

    The most frequent rank and alpha stand for all, the others in the patterns, by whole names. Scales are alpha / r:
    where an adapter was rank-stabilised, its alpha is written so that the quotient is the scale it had.
    """
    ranks = {name: one.rank for name, one in factors.items()}
    alphas = {name: one.scale * one.rank for name, one in factors.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        **document, "r": rank, "lora_alpha": _number(alpha), "use_rslora": False,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: _number(value) for name, value in alphas.items() if value != alpha},
    }  # fmt: skip


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _check_plain(document: dict[str, Any], folder: Path) -> None:
    initial = str(document.get("init_lora_weights", True)).lower()
    wrong = {
        f"peft_type {document.get('peft_type')}": document.get("peft_type") != "LORA",
        "DoRA": bool(document.get("use_dora")),
        f"bias {document.get('bias')}": document.get("bias", "none") != "none",
        f"init_lora_weights {initial}": initial.startswith(_REBASING),
        "factors of parameters": bool(document.get("target_parameters")),
        "trainable tokens": bool(document.get("trainable_token_indices")),
    }
    if found := [what for what, is_so in wrong.items() if is_so]:
        raise DataError(f"{folder}: an adapter with {', '.join(found)}", expected="plain LoRA on linear modules")


def _factors(name: str, stored: Mapping[str, Tensor], document: Mapping[str, Any], folder: Path) -> Factors:
    from peft.utils.other import get_pattern_key

    a, b = stored[f"{PREFIX}{name}{_A}"], stored.get(f"{PREFIX}{name}{_B}")
    if b is None or a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        raise DataError(
            f"{folder}: the factors of {name} do not fit each other", expected="(r, inputs) and (outputs, r)"
        )
    patterns = document.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(list(patterns), name), document["lora_alpha"])
    rank = a.shape[0]
    return Factors(a.float(), b.float(), float(alpha) / (rank**0.5 if document.get("use_rslora") else rank))
