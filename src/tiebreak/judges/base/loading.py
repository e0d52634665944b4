"""A base as objects of transformers: configuration, tokenizer, model with a three-way head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiebreak.judges.base.names import Base, Head

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


def tokenizer(base: Base) -> PreTrainedTokenizerFast:
    """The tokenizer of a base."""
    raise NotImplementedError


def config(base: Base) -> PretrainedConfig:
    """The configuration of a base; of its `shape`, where one is named."""
    raise NotImplementedError


def sequence_classifier(
    base: Base,
    head: Head,
    *,
    outputs: int = 3,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    soft_capping: bool = True,
    attention: str = "eager",
    device: Any = None,
    meta: bool = False,
) -> PreTrainedModel:
    """The base with a classification head on top."""
    raise NotImplementedError
