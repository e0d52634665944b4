"""Sixty comparisons of tiebreak's own writing, for the demo, the docs and the tests.

README.md beside the data says how they were made. The labels are the authors' judgement, not a human study.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak.comparisons import SCHEMA, validate

_RESOURCE: Final = files("tiebreak.samples") / "votes.jsonl"

PATH: Final = Path(str(_RESOURCE))
"""Where the samples lie; a real file wherever the package is installed as files."""

_KEYS: Final = ("id", "model_a", "model_b", "prompt", "response_a", "response_b", "label", "group", "source")


def votes() -> pl.DataFrame:
    """The sample comparisons with their labels, as a validated table."""
    schema = {key: SCHEMA[key] for key in _KEYS}
    return validate(pl.read_ndjson(_RESOURCE.read_bytes(), schema=schema), where=_RESOURCE.name)
