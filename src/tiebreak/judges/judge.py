"""What every judge can do, whatever is inside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import polars as pl

from tiebreak import bundle, comparisons, predictions
from tiebreak.bundle import Manifest
from tiebreak.errors import UsageError
from tiebreak.judges.runtime import Runtime


@dataclass(frozen=True)
class Scores:
    """What a judge says before calibration, a row a comparison.

    Attributes:
        probabilities: float64 of shape (rows, 3), order a, b, tie.
        swap_gap: float64 of shape (rows,): how far the two presentation orders disagree; NaN where one was judged.
        truncated: bool of shape (rows,): whether some text was cut.
        ledger: Columns `predictions.LEDGER`, from a judge that counts tokens.
    """

    probabilities: np.ndarray
    swap_gap: np.ndarray
    truncated: np.ndarray
    ledger: pl.DataFrame | None = None


@dataclass(frozen=True)
class Reason:
    """One reason behind a verdict, in plain words.

    Attributes:
        text: For example "A is 2.1 times as long".
        toward_a: What it adds to the log-odds of A against B; negative speaks for B. Mirrored under swap.
        toward_tie: What it adds to the log-odds of a tie against the mean of A and B. The same under swap.
    """

    text: str
    toward_a: float
    toward_tie: float


@dataclass(frozen=True)
class Prediction:
    """The answer for one comparison."""

    p_a: float
    p_b: float
    p_tie: float
    label: str
    swap_gap: float | None
    truncated: bool


class Judge(ABC):
    """Predicts P(A), P(B), P(tie) for comparisons. Made by `tiebreak.load_judge` or by training."""

    kind: ClassVar[str]

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @abstractmethod
    def score(self, table: pl.DataFrame) -> Scores:
        """Uncalibrated probabilities for a validated table of comparisons."""

    @abstractmethod
    def weights(self) -> Mapping[str, bytes | Path]:
        """The files of the bundle beside `judge.json`, by name: their bytes, or a file to copy."""

    @classmethod
    @abstractmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> Self:
        """Make the judge from a bundle whose manifest and files were checked already."""

    @property
    def warnings(self) -> list[str]:
        """What a person should read of the last scoring; mostly nothing."""
        return []

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run: devices, precision, lengths, swap policy. A judge without a network has no such choices.

        Raises:
            UsageError: A choice does not apply to this kind of judge.
        """
        if named := runtime.chosen():
            raise UsageError(
                f"{', '.join(named)}: a {self.kind} judge has no such choice",
                expected="a fine-tuned judge (--judge DIR of tiebreak train RECIPE)",
            )

    def explain(self, table: pl.DataFrame) -> list[list[Reason]]:
        """Why: for each comparison the reasons, largest first. They add up to the uncalibrated log-odds.

        Raises:
            UsageError: This kind of judge has no additive explanation.
        """
        raise UsageError(f"a {self.kind} judge cannot explain itself", expected="a features judge")

    def predict(self, table: pl.DataFrame) -> pl.DataFrame:
        """Calibrated predictions, a row a comparison, in the same order.

        Args:
            table: Comparisons; validated here, so any frame with the required columns will do.

        Raises:
            DataError: The table is not a table of comparisons.
        """
        table = comparisons.validate(table)
        scores = self.score(table)
        calibration = self.manifest.calibration
        final = scores.probabilities if calibration is None else calibration.apply_equivariant(scores.probabilities)
        return predictions.build(
            table["id"], final, swap_gap=scores.swap_gap, truncated=scores.truncated, ledger=scores.ledger
        )

    def compare(self, prompt: str | Sequence[str], a: str | Sequence[str], b: str | Sequence[str]) -> Prediction:
        """Judge one pair. Each argument is a text, or a list of texts with one item a turn."""
        row = self.predict(one(prompt, a, b)).row(0, named=True)
        return Prediction(**{name: row[name] for name in Prediction.__dataclass_fields__})

    def save(self, directory: str | Path) -> None:
        """Write the bundle whole or not at all."""
        bundle.write(Path(directory), self.manifest, self.weights())


def one(prompt: str | Sequence[str], a: str | Sequence[str], b: str | Sequence[str]) -> pl.DataFrame:
    """A table with a single comparison."""
    turns = [[text] if isinstance(text, str) else list(text) for text in (prompt, a, b)]
    columns = dict(zip(comparisons.TEXTS, turns, strict=True))
    frame = pl.DataFrame(
        {"id": ["0"], **{name: [value] for name, value in columns.items()}},
        schema={"id": pl.String, **dict.fromkeys(comparisons.TEXTS, comparisons.TURNS)},
    )
    return comparisons.validate(frame, where="compare")
