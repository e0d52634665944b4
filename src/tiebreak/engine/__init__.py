"""Scores any fine-tuned judge without padding. Needs the extra `llm`; nothing here is imported before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiebreak.errors import MissingExtraError

if TYPE_CHECKING:
    from tiebreak.engine.batches import microbatches
    from tiebreak.engine.engine import Engine
    from tiebreak.engine.options import Options
    from tiebreak.engine.packed import Packed, pack
    from tiebreak.engine.pooled import Pooled

__all__ = ["Engine", "Options", "Packed", "Pooled", "microbatches", "pack"]

_HOME = {
    "Engine": "engine", "Options": "options", "Packed": "packed", "Pooled": "pooled", "microbatches": "batches",
    "pack": "packed",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name in {"torch", "transformers"}:
            raise MissingExtraError(error.name, "llm", "a fine-tuned judge") from None
        raise
