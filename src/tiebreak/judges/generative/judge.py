"""A causal language model as a judge."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

from tiebreak.bundle import Manifest
from tiebreak.errors import BundleError
from tiebreak.judges import finetuned
from tiebreak.judges.base.loading import read_tokenizer
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.generative import backends, reading, shots
from tiebreak.judges.generative.settings import LEAST_COVERAGE, Settings
from tiebreak.judges.generative.verdicts import Tree
from tiebreak.judges.judge import Scores
from tiebreak.judges.runtime import AUTO, Runtime
from tiebreak.render import Renderer, Sequences

if TYPE_CHECKING:
    from tiebreak.judges.generative.backend import Backend, Masses


class GenerativeJudge(ClassifierJudge):
    """Asks a language model which answer is better and reads the probabilities of its verdicts, not its prose.

    Rendering, presentation orders and accounts are those of a classifier; the three logits are log-masses of verdicts.

    Attributes:
        report: Beside what the backend says: coverage (mean and least probability that the model's next words are one
            of the verdicts at all) and warnings.
    """

    kind: ClassVar[str] = "generative"
    settings_kind: ClassVar[type[finetuned.Settings]] = Settings
    settings: Settings

    def __init__(self, manifest: Manifest, directory: Path, *, temporary: bool = False) -> None:
        super().__init__(manifest, directory, temporary=temporary)
        self._covered: list[np.ndarray] = []

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run. What was loaded already is dropped.

        Raises:
            UsageError: A choice does not apply to this kind of judge or to this bundle.
        """
        super().run_with(runtime)
        for name in ("backend", "tree", "prefix", "writer"):
            self.__dict__.pop(name, None)

    def _check_backend(self, runtime: Runtime) -> None:
        """Every backend is one that a generative judge can have; the bundle may not."""
        backends.check(self.settings, runtime, self._directory)

    @property
    def warnings(self) -> list[str]:
        """That the model was going to write something else, where it was."""
        return list(self.report.get("warnings", []))

    def ready(self) -> Self:
        """Load tokenizer and model now and not at the first vote."""
        _ = self.renderer, self.tree, reading.writer_of(self) if self.settings.reads == "text" else self.backend
        return self

    @cached_property
    def renderer(self) -> Renderer:
        """Comparisons -> token ids, with room left for the examples.

        Raises:
            BundleError: Template and tokenizer of the bundle give other tokens than they did.
            UsageError: `max_length` has no room for the template's own words and the examples.
        """
        whole = super().renderer
        return whole if self.settings.shots is None else whole.at(whole.template.max_length - len(self.prefix))

    @cached_property
    def prefix(self) -> np.ndarray:
        """The tokens of the examples, int32; none without any."""
        kept = self.settings.shots
        if kept is None:
            return np.zeros(0, dtype=np.int32)
        whole = Renderer(self.settings.template, read_tokenizer(self._directory))
        ids = shots.prefix(shots.read(self._directory), whole.at(kept.max_length), self.settings.verdicts)
        if len(ids) != kept.tokens:
            raise BundleError(
                f"{self._directory}: the examples are {len(ids)} tokens", expected=f"{kept.tokens}, as they were"
            )
        return ids

    def asked(self, sequences: Sequences) -> Sequences:
        """The rendered comparisons as they are asked: after the examples."""
        if self.settings.shots is None:
            return sequences
        return Sequences.of(
            np.concatenate([self.prefix, shots.without_beginning(row, self.renderer)]) for row in sequences
        )

    @cached_property
    def tree(self) -> Tree:
        """The spellings of the verdicts as token ids."""
        return Tree.of(self.settings.verdicts, self.renderer.tokenizer)

    @cached_property
    def backend(self) -> Backend:
        """What runs the model.

        Raises:
            UsageError: A choice of this run does not apply to it.
            MissingExtraError: What it runs on is not installed.
        """
        return backends.of(self.settings, self.runtime, self._directory, self)

    @property
    def directory(self) -> Path:
        """The folder with the files of the bundle."""
        return self._directory

    @property
    def precision(self) -> str:
        """What layers compute in, where the network runs here: as asked for, or as the bundle was compressed for."""
        from tiebreak.judges.finetuned import loading

        compression = self.settings.compression
        if self.runtime.precision != AUTO or compression is None:
            return self.runtime.precision
        return loading.own_precision(compression, self.network, self.runtime.devices)

    def score(self, table: pl.DataFrame) -> Scores:
        """Uncalibrated probabilities: those of verdicts as next words, or what verdicts read in prose are worth."""
        return reading.score(self, table) if self.settings.reads == "text" else super().score(table)

    def masses(self, sequences: Sequences, pairs: np.ndarray | None = None) -> Masses:
        """Masses of the verdicts after each rendered comparison."""
        return self.backend.masses(self.asked(sequences), self.tree, pairs=pairs)

    def _logits(self, sequences: Sequences, pairs: np.ndarray | None = None) -> np.ndarray:
        if not len(sequences):
            return np.zeros((0, 3))
        masses = self.masses(sequences, pairs)
        self._covered.append(masses.coverage)
        return masses.log_mass

    def _account(self, rows: int, forwards: int) -> None:
        report: dict[str, Any] = {**self.backend.report, "rows": rows, "sequences": forwards}
        covered = np.concatenate([*self._covered, np.zeros(0)])
        self._covered = []
        known = covered[~np.isnan(covered)]
        if len(known):
            report["coverage"] = {"mean": float(known.mean()), "least": float(known.min())}
            if known.mean() < LEAST_COVERAGE:
                report["warnings"] = [_uncovered(float(known.mean()))]
        self.report = report


def _uncovered(mean: float) -> str:
    return (
        f"the verdicts hold {100 * mean:.2g} % of the model's probability: it was going to write something else "
        "(another --template, or other spellings, may suit it better)"
    )
