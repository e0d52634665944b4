"""Fold teachers for tests, made in no time: the embedded judge's weights, each with a temperature of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tiebreak import bundle, judges, row_hashes
from tiebreak.calibration import Calibration
from tiebreak.teach.labelling import run


def teacher(directory: Path, trained: pl.DataFrame | None, *, heat: float = 1.0, **changes: Any) -> Path:
    """A bundle that says it was trained on these rows (None: it does not say); `heat` tells its word from others'."""
    judge = judges.load()
    scale = 1 / heat
    weight = ((scale, 0.0, 0.0), (0.0, scale, 0.0), (0.0, 0.0, scale))
    calibration = Calibration(method="temperature", weight=weight, bias=(0.0, 0.0, 0.0))
    seen = {} if trained is None else {row_hashes.TRAINED: row_hashes.trained_rows(trained)}
    manifest = judge.manifest.model_copy(update={"calibration": calibration, "name": "made", **changes})
    directory.parent.mkdir(exist_ok=True)
    bundle.write(directory, manifest, {**judge.weights(), **seen})
    return directory


def fold_teachers(folder: Path, votes: pl.DataFrame, folds: int = 3) -> list[Path]:
    """One teacher a fold, in folders `fold-0`, `fold-1`, ..., each trained on the rows whose column fold is another."""
    return [
        teacher(
            folder / f"fold-{fold}", votes.filter((pl.col("fold") != fold).fill_null(True)), heat=1 + fold / 2,
            name=f"made-fold-{fold}",
        )
        for fold in range(folds)
    ]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def loaded_once() -> Iterator[None]:
    """Every judge of a module's tests is loaded once: what is tested is who is asked, not how it is read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "load", cache(judges.load))
        patch.setattr(run, "_let_go", lambda: None)
        yield
