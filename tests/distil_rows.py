"""Teachers that the tests of distillation make: tables of soft labels with their audits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tiebreak import row_hashes, soft_labels, storage
from tiebreak.soft_labels import Audit


def truth(votes: pl.DataFrame) -> np.ndarray:
    """What the rows of `finetune_rows.votes` really are, shape (rows, 3): the answer with more of "better" wins."""
    a, b = (votes[name].list.first().str.count_matches("better").to_numpy() for name in ("response_a", "response_b"))
    return np.eye(3)[np.where(a > b, 0, np.where(b > a, 1, 2))]


def perfect(votes: pl.DataFrame, *, sure: float = 0.9) -> np.ndarray:
    """A teacher that knows what the rows are, shape (rows, 3)."""
    return truth(votes) * sure + (1 - sure) / 3


def audited(path: Path, *, passed: bool = True, forced: bool = False) -> Path:
    """The file with an audit beside it."""
    faults = [] if passed else ["it is worse than the class shares"]
    audit = Audit(
        labels_sha256=storage.sha256(path), teacher="made", rows=1, passed=passed, forced=forced, faults=faults
    )
    soft_labels.write_audit(path, audit)
    return path


def write(path: Path, votes: pl.DataFrame, p: np.ndarray, *, name: str = "oracle", **columns: Any) -> Path:
    """A file of soft labels for these votes, audited."""
    table = pl.DataFrame({"id": votes["id"], "content": row_hashes.content(votes)}).with_columns(
        p_a=p[:, 0], p_b=p[:, 1], p_tie=p[:, 2], teacher=pl.lit(name), revision=pl.lit("r1"),
        **{"in_sample": pl.lit(value=False), **columns},
    )  # fmt: skip
    soft_labels.validate(table).write_parquet(path)
    return audited(path)
