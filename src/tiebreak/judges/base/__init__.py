"""Pretrained models: named, found on this machine, pinned and loaded. Importing this does not load torch."""

from __future__ import annotations

from tiebreak.judges.base.identity import digest
from tiebreak.judges.base.loading import config, sequence_classifier, tokenizer
from tiebreak.judges.base.locate import resolve
from tiebreak.judges.base.names import GGUF, PACKAGE, Base, Head, Located

__all__ = [
    "GGUF", "PACKAGE", "Base", "Head", "Located", "config", "digest", "resolve", "sequence_classifier", "tokenizer",
]  # fmt: skip
