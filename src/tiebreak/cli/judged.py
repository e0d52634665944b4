"""What `evaluate`, `calibrate` and `baselines` read: tables of predictions, and votes with or without texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.cli import console, options

if TYPE_CHECKING:
    import polars as pl


def predictions(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """A prediction table from a file; rows that were rounded when written are scaled to sum 1, and counted."""
    from tiebreak.ingest import judged

    found, scaled = judged.prediction_table(judged.read_file(path), columns, where=str(path))
    if scaled:
        console.note(f"  {path}: rows whose probabilities were rounded, scaled to sum 1: {scaled:,}")
    return found


def votes(path: Path, input_format: str, mapping: list[str] | None) -> pl.DataFrame:
    """Any file of votes, or a table of ids and labels without texts."""
    from tiebreak import ingest
    from tiebreak.ingest import judged

    if path.suffix.lower() in judged.SUFFIXES and input_format == "auto" and not mapping:
        frame = judged.read_file(path)
        if not judged.has_texts(frame):
            return judged.label_table(frame, where=str(path))
    return ingest.read(path, format=input_format, mapping=options.parse_map(mapping))
