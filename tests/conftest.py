"""What many tests use: made-up comparisons, a plain judge, the command line as a subprocess."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tiebreak import comparisons, predictions
from tiebreak.bundle import Manifest
from tiebreak.judges import Judge, Scores

SHARED = Path(__file__).parents[2] / "shared" / "data"


class LengthJudge(Judge):
    """Prefers the longer answer; nothing to load, so that tests of the engine test the engine."""

    kind = "length"

    def __init__(self) -> None:
        super().__init__(Manifest(kind="length", name="length", swap_equivariant=True))
        self.judged = 0

    def score(self, table: pl.DataFrame) -> Scores:
        self.judged += table.height
        a, b = (
            table.select(pl.col(name).list.join("", ignore_nulls=True).str.len_chars()).to_series().to_numpy()
            for name in ("response_a", "response_b")
        )
        gap = (a.astype(float) - b.astype(float)) / (1.0 + a + b)
        p = predictions.softmax(np.stack([gap, -gap, np.zeros_like(gap)], axis=1))
        return Scores(p, np.zeros(len(p)), np.zeros(len(p), dtype=bool))

    def weights(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> LengthJudge:
        return cls()


@pytest.fixture
def length_judge() -> LengthJudge:
    return LengthJudge()


@pytest.fixture
def votes() -> Callable[[int], pl.DataFrame]:
    """Makes n comparisons, ids with repeats, labels in turn."""

    def make(n: int) -> pl.DataFrame:
        rows = range(n)
        return comparisons.validate(
            pl.DataFrame(
                {
                    "id": [str(i // 2) for i in rows],
                    "prompt": [[f"question {i}"] for i in rows],
                    "response_a": [["x" * (i % 7)] for i in rows],
                    "response_b": [["y" * (i % 5)] for i in rows],
                    "label": [comparisons.LABELS[i % 3] for i in rows],
                },
                schema_overrides={name: comparisons.TURNS for name in comparisons.TEXTS},
            )
        )

    return make


def tiebreak(
    *arguments: str | Path, stdin: str | None = None, cwd: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "tiebreak", *map(str, arguments)],
        input=stdin, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    return tiebreak
