"""The embedded judge: counts properties of the two answers and weighs them. No GPU, no download, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.bundle import Manifest
from tiebreak.errors import BundleError
from tiebreak.judges.features import model
from tiebreak.judges.features.pairs import Chosen, features
from tiebreak.judges.features.reasons import reasons
from tiebreak.judges.features.slices import in_slices
from tiebreak.judges.features.texts import measure
from tiebreak.judges.judge import Judge, Reason, Scores

CARD: Final = "README.md"
"""The card, beside the weights."""


class FeaturesJudge(Judge):
    """Weighs some two hundred properties of a comparison. Exactly swap-equivariant.

    Args:
        manifest: Its settings name the features, in the order of the weights.
        files: The files of the bundle beside `judge.json`.
    """

    kind: ClassVar[str] = "features"

    def __init__(self, manifest: Manifest, files: dict[str, bytes]) -> None:
        super().__init__(manifest)
        self._files = files
        self._chosen = Chosen(_names(manifest, "signed"), _names(manifest, "symmetric"))
        self._model = model.load(files, self._chosen)

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> Self:
        """Make the judge from a bundle whose manifest and files were checked already."""
        return cls(manifest, {name: (directory / name).read_bytes() for name in manifest.files})

    def weights(self) -> dict[str, bytes]:
        """The files of the bundle beside `judge.json`, by name."""
        return self._files

    def score(self, table: pl.DataFrame) -> Scores:
        """Uncalibrated probabilities for a validated table of comparisons."""
        logits = np.concatenate([np.zeros((0, 3)), *in_slices(self._logits, table)])
        rows = len(logits)
        return Scores(predictions.softmax(logits), np.zeros(rows), np.zeros(rows, dtype=bool))

    def explain(self, table: pl.DataFrame) -> list[list[Reason]]:
        """Why: for each comparison the reasons, largest first. They add up to the uncalibrated log-odds."""
        return [found for part in in_slices(self._reasons, comparisons.validate(table)) for found in part]

    def _logits(self, rows: pl.DataFrame) -> np.ndarray:
        measured = measure(rows)
        return self._model.logits(features(measured, self._chosen), measured.tokens)

    def _reasons(self, rows: pl.DataFrame) -> list[list[Reason]]:
        measured = measure(rows)
        parts = self._model.contributions(features(measured, self._chosen), measured.tokens)
        return reasons(measured, parts, self._chosen, self._model.wording.vocabulary)


def _names(manifest: Manifest, key: str) -> tuple[str, ...]:
    names = manifest.settings.get(key)
    if not isinstance(names, list):
        raise BundleError(f"judge.json: settings.{key} is {names!r}", expected="a list of feature names")
    return tuple(str(name) for name in names)
