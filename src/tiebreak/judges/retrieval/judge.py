"""A judge that asks what people said of similar prompts with similar answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import polars as pl

from tiebreak import predictions, row_hashes
from tiebreak.bundle import Manifest, TrainingSource
from tiebreak.errors import BundleError, UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.judge import Judge, Scores
from tiebreak.judges.retrieval import memory, votes
from tiebreak.judges.retrieval.encoder import Encoder
from tiebreak.judges.retrieval.kernel import Near, distribution
from tiebreak.judges.retrieval.memory import Memory
from tiebreak.judges.retrieval.settings import Settings
from tiebreak.judges.retrieval.votes import Read, Votes
from tiebreak.judges.runtime import Runtime

CARD: Final = "README.md"
VERSIONS: Final = ("tiebreak", "torch", "transformers", "tokenizers", "faiss-cpu")


class RetrievalJudge(Judge):
    """Nearest votes by prompt and by answer difference, shrunk to the prior. Exactly swap-equivariant.

    A row is never judged by a vote on its own texts, nor by one of its own group where the table names groups: so a
    judge can be asked about the very votes it remembers without an answer that gives itself away.

    Args:
        manifest: What `judge.json` says.
        files: The files of the bundle beside it, by name.

    Attributes:
        report: What the last scoring took, as of the engine, and `neighbours`: how many votes counted on average.
    """

    kind: ClassVar[str] = "retrieval"

    def __init__(self, manifest: Manifest, files: Mapping[str, bytes | Path]) -> None:
        super().__init__(manifest)
        self.settings = Settings.of(manifest)
        self.runtime = Runtime()
        self.report: dict[str, Any] = {}
        self._files = dict(files)

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> Self:
        """Make the judge from a bundle whose manifest and files were checked already. Nothing is read yet."""
        return cls(manifest, {name: directory / name for name in manifest.files})

    @classmethod
    def make(
        cls,
        *,
        name: str,
        encoder: Encoder,
        memory: Memory,
        trained: bytes,
        training: Sequence[TrainingSource] = (),
        metrics: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> Self:
        """Make a judge of votes that were encoded and indexed.

        Args:
            name: Of the judge.
            encoder: What encoded them.
            memory: The votes, their index and the kernel.
            trained: The file `row_hashes.TRAINED`.
            training: The data it remembers.
            metrics: Figures on votes held out.
            recipe: How the kernel was chosen.
        """
        settings = Settings(
            encoder=encoder.base, manner=encoder.manner, kernel=memory.kernel, index=memory.shape,
            prior=memory.votes.prior(), votes=len(memory.votes), recipe=recipe or {},
        )  # fmt: skip
        manifest = Manifest(
            kind=cls.kind, name=name, swap_equivariant=True, settings=settings.model_dump(mode="json"),
            training=list(training), metrics=metrics or {}, versions={name: version(name) for name in VERSIONS},
        )  # fmt: skip
        made = cls(manifest, {**memory.files(), row_hashes.TRAINED: trained})
        made.__dict__ |= {"memory": memory, "encoder": encoder}
        return made

    def with_card(self, card: str) -> Self:
        """The same judge with this card."""
        made = type(self)(self.manifest, {**self._files, CARD: card.encode()})
        made.__dict__ |= {name: self.__dict__[name] for name in ("memory", "encoder") if name in self.__dict__}
        return made

    def weights(self) -> Mapping[str, bytes | Path]:
        """The files of the bundle beside `judge.json`, by name."""
        return self._files

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run the encoder. What was loaded of it already is dropped.

        Raises:
            UsageError: A choice does not apply to this kind of judge.
        """
        given = {"--swap": runtime.swap, "--backend": runtime.backend, "--server": runtime.server}
        if refused := [f"{option} {value}" for option, value in given.items() if value is not None]:
            raise UsageError(
                f"{', '.join(refused)}: a retrieval judge has no such choice; both orders of every vote count",
                expected="--devices, --precision, --max-tokens, --max-length or --base",
            )
        self.runtime = runtime
        self.__dict__.pop("encoder", None)

    @cached_property
    def encoder(self) -> Encoder:
        """What makes vectors of texts.

        Raises:
            DataError: The base is another one than the votes were encoded with.
            UsageError: The base is not on this machine.
        """
        recorded = self.settings.encoder
        base = recorded if self.runtime.base is None else Base(name=self.runtime.base, sha256=recorded.sha256)
        return Encoder(base, self.settings.manner, self.runtime)

    @cached_property
    def memory(self) -> Memory:
        """The votes and their index.

        Raises:
            BundleError: A file of the bundle is damaged.
            MissingExtraError: faiss is not installed.
        """
        paths = {name: path for name, path in self._files.items() if isinstance(path, Path)}
        if votes.FILE not in paths:
            raise BundleError(f"no {votes.FILE} in the bundle", expected="the votes of a retrieval judge")
        kept = Votes.load(paths[votes.FILE])
        if len(kept) != self.settings.votes:
            raise BundleError(f"{votes.FILE} holds {len(kept)} votes", expected=f"{self.settings.votes}")
        index = paths.get(memory.FILE, paths[votes.FILE].with_name(memory.FILE))
        return Memory.restore(kept, self.settings.kernel, self.settings.index, index)

    def ready(self) -> Self:
        """Load encoder and votes now and not at the first row: what a service does before it says it is up."""
        _ = self.encoder, self.memory
        return self

    def score(self, table: pl.DataFrame) -> Scores:
        """Uncalibrated probabilities for a validated table of comparisons."""
        return self.score_read(table, votes.read(table, self.encoder))

    def score_read(self, table: pl.DataFrame, read: Read) -> Scores:
        """As `score`, for texts that were encoded already."""
        sign = _sides(read.difference)
        near = self.near(table, read)
        kernel = self.settings.kernel
        given = distribution(near, self.memory.votes.targets.astype(np.float64), np.array(self.settings.prior), kernel)
        probabilities = np.where((sign < 0)[:, None], given[:, [1, 0, 2]], given)
        side = (given[:, 0] + given[:, 1]) / 2
        probabilities[sign == 0, :2] = side[sign == 0, None]
        counted = (~np.isnan(near.similarity[:, : kernel.neighbours])).sum(axis=1)
        mean = float(counted.mean()) if len(counted) else 0.0
        self.report = {**self.encoder.report, "rows": table.height, "neighbours": mean}
        truncated = np.any(read.kept < read.tokens, axis=0)
        return Scores(probabilities, np.zeros(table.height), truncated, _ledger(read))

    def near(self, table: pl.DataFrame, read: Read | None = None) -> Near:
        """The votes that are near each row.

        Each row is looked up upright: with the side first that makes the first component of the difference positive.
        `mirrored` is meant from there.
        """
        read = votes.read(table, self.encoder) if read is None else read
        upright = read.difference * _sides(read.difference)[:, None]
        return self.memory.near(read.prompt, upright, votes.rows_of(table), votes.groups_of(table))


def _sides(difference: np.ndarray) -> np.ndarray:
    """The sign of the first component that is not zero, 0 where the answers are the same.

    Each row is looked up with this side first, so that it and its twin are one and the same computation.
    """
    first = (difference != 0).argmax(axis=1)
    signs: np.ndarray = np.sign(difference[np.arange(len(difference)), first])
    return signs


def _ledger(read: Read) -> pl.DataFrame:
    columns: dict[str, np.ndarray] = {}
    for number, text in enumerate(("prompt", "a", "b")):
        columns |= {f"tokens_{text}": read.tokens[number], f"kept_{text}": read.kept[number]}
    return pl.DataFrame(columns).select(predictions.LEDGER)
