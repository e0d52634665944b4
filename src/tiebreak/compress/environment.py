"""The environment of llm-compressor: its own, since it needs another transformers than judges run on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tiebreak import environments
from tiebreak.environments import Environment, Recipe
from tiebreak.listening import SILENT, Listener

__all__ = ["LLMCOMPRESSOR", "MINUTES", "PYTHON", "SIZE", "Environment", "find", "is_there", "place", "recipe"]

PYTHON: Final = "TIEBREAK_QUANTIZE_PYTHON"
"""Environment variable that names the Python of an environment with llm-compressor."""

LLMCOMPRESSOR: Final = "0.14.0.1"
SIZE: Final = "1.5 GB"
MINUTES: Final = "two to four minutes"


def recipe() -> Recipe:
    """What the environment holds: llm-compressor beside the torch that judges run on."""
    return Recipe(
        program="llm-compressor", variable=PYTHON, option="--python", main=("llmcompressor",),
        beside=("torch", "transformers", "compressed-tensors"), requirement=f"llmcompressor=={LLMCOMPRESSOR}",
        torch=environments.own_torch("2.13.0"), size=SIZE, minutes=MINUTES,
    )  # fmt: skip


def find(given: Path | None = None, listener: Listener = SILENT) -> Environment:
    """The environment: `given`, else the one that `TIEBREAK_QUANTIZE_PYTHON` names, else the one in the cache.

    Raises:
        UsageError: What is named is no Python with llm-compressor.
        ResourceError: The environment cannot be made: no network, no room.
    """
    return environments.find(recipe(), given, listener)


def place() -> Path:
    """Where the environment is or will be."""
    return recipe().folder


def is_there(given: Path | None = None) -> bool:
    """Whether nothing would have to be made."""
    return environments.is_there(recipe(), given)
