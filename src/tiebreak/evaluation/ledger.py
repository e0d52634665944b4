"""What the judge saw of the texts, and whether it judges worse where it saw less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from tiebreak.evaluation.sample import Sample
from tiebreak.predictions import LEDGER
from tiebreak.scoring import metrics
from tiebreak.scoring.bootstrap import Estimate, ratio

FIELDS: Final = {"prompt": "Prompt", "a": "Answer A", "b": "Answer B"}
"""Endings of the ledger's columns, with the names that people read."""
TITLES: Final = {
    "truncated_share": "Votes with cut text",
    "kept_share": "Share of all tokens read",
    "truncated_log_loss_gap": "Log-loss on votes with cut text minus that on the others",
}
"""Figures that a gate can name."""


@dataclass(frozen=True)
class Field:
    """One text of all scored votes, in tokens of the judge."""

    tokens: int
    kept: int

    @property
    def share_kept(self) -> float:
        """Share of the tokens that the judge saw; 1 where there are none."""
        return self.kept / self.tokens if self.tokens else 1.0


@dataclass(frozen=True)
class Ledger:
    """The truncation ledger of the scored votes, summed.

    Attributes:
        truncated: Votes in which text was cut.
        truncated_share: Their (weighted) share, with its interval.
        kept_share: Share of all tokens that the judge saw, weighted as the votes are.
        log_loss_gap: Log-loss on votes with cut text minus that on the others; NaN where there is none of either.
        fields: `prompt`, `a`, `b`.
    """

    truncated: int
    truncated_share: Estimate
    kept_share: Estimate
    log_loss_gap: Estimate
    fields: dict[str, Field]

    @property
    def figures(self) -> dict[str, Estimate]:
        """What a gate can name."""
        return dict(zip(TITLES, (self.truncated_share, self.kept_share, self.log_loss_gap), strict=True))


def measure(sample: Sample, judged: pl.DataFrame) -> Ledger | None:
    """Sum the ledger of the scored votes; None if the judge counts no tokens.

    Args:
        sample: The votes and the judge's probabilities.
        judged: Validated predictions, aligned to all votes of the file.
    """
    if not set(LEDGER) <= set(judged.columns):
        return None
    kept = judged[sample.kept]
    counts = kept.select(pl.col(LEDGER).cast(pl.Float64).fill_null(0.0)).to_numpy()
    cut = kept["truncated"].to_numpy().astype(np.float64)
    loss = metrics.row_log_loss(sample.probabilities, sample.targets)
    mean = sample.means(
        cut=cut, whole=1 - cut, loss_cut=loss * cut, loss_whole=loss * (1 - cut),
        tokens=counts[:, ::2].sum(axis=1), seen=counts[:, 1::2].sum(axis=1),
    )  # fmt: skip
    sums = counts.sum(axis=0).astype(np.int64)
    return Ledger(
        truncated=int(cut.sum()),
        truncated_share=Estimate.of(mean["cut"]),
        kept_share=Estimate.of(ratio(mean["seen"], mean["tokens"])),
        log_loss_gap=Estimate.of(ratio(mean["loss_cut"], mean["cut"]) - ratio(mean["loss_whole"], mean["whole"])),
        fields={name: Field(int(sums[2 * k]), int(sums[2 * k + 1])) for k, name in enumerate(FIELDS)},
    )
