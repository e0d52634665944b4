"""A sequence classifier as a judge, in one presentation order or in both."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import field_validator

from tiebreak import predictions
from tiebreak.comparisons import LABELS, Labels
from tiebreak.judges import finetuned
from tiebreak.judges.classifier.orders import Orders, joined, least_kept, nearest_to_toss_up
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.judge import Scores
from tiebreak.judges.runtime import Runtime, Swap
from tiebreak.render import Sequences


class Settings(finetuned.Settings):
    """Settings of a classifier judge.

    Attributes:
        swap: The orders it judges when nobody says: both, none or uncertain=SHARE.
        outputs: What the outputs of the network mean, in their order.
    """

    swap: str = "both"
    outputs: Labels = LABELS

    @property
    def equivariant(self) -> bool:
        """Whether exchanging the answers exchanges the probabilities exactly."""
        return Swap.parse(self.swap).equivariant

    @field_validator("swap")
    @classmethod
    def _known(cls, text: str) -> str:
        Swap.parse(text)
        return text

    @field_validator("outputs")
    @classmethod
    def _each_once(cls, outputs: Labels) -> Labels:
        if sorted(outputs) != sorted(LABELS):
            raise ValueError(f"{outputs} are not {LABELS} in some order")
        return outputs


class ClassifierJudge(FinetunedJudge):
    """Reads both answers in one sequence. Swap-equivariant unless it judges one order only (`none`)."""

    kind: ClassVar[str] = "classifier"
    settings_kind: ClassVar[type[finetuned.Settings]] = Settings
    settings: Settings

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run. Another swap policy is the judge's own from here on, also when it is saved or calibrated.

        Raises:
            UsageError: A choice does not apply to this kind of judge or to this bundle.
        """
        super().run_with(runtime)
        if runtime.swap is not None:
            self.settings = self.settings.model_copy(update={"swap": runtime.swap})
            self.manifest = self.manifest.model_copy(
                update={"settings": self.settings.document(), "swap_equivariant": self.settings.equivariant}
            )

    def score(self, table: pl.DataFrame) -> Scores:
        """Uncalibrated probabilities for a validated table of comparisons.

        Where both orders are judged, the probabilities are the mean of both; `swap_gap` is NaN in rows that were
        judged in one order. The share of `uncertain` is one of the rows of this table.
        """
        swap = Swap.parse(self.settings.swap)
        if swap.policy == "none":
            return self._as_given(table)
        given, swapped = self.renderer.render_both(table)
        orders = Orders.of(given, swapped)
        first, second, twice = self._in_orders(orders, swap)
        mean, gap = joined(first, second, twice)
        ledger, truncated = least_kept(given, swapped, twice | ~orders.exchanged, twice | orders.exchanged)
        return Scores(orders.as_given(mean), gap, truncated, ledger)

    def _as_given(self, table: pl.DataFrame) -> Scores:
        rendered = self.renderer.render(table)
        once = predictions.softmax(self._logits(rendered.sequences))
        self._account(table.height, len(once))
        return Scores(once, np.full(table.height, np.nan), rendered.truncated, rendered.ledger)

    def _in_orders(self, orders: Orders, swap: Swap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities of the first and of the second order, and which rows have the second."""
        rows = len(orders.alike)
        logits = np.zeros((2 * rows, 3))
        if swap.policy == "both":
            twice = np.ones(rows, dtype=bool)
            seconds = np.flatnonzero(~orders.alike)
            wanted = np.sort(np.concatenate([2 * np.arange(rows), 2 * seconds + 1]))
            at = np.searchsorted(wanted, 2 * seconds)
            logits[wanted] = self._logits(orders.sequences.pick(wanted), np.stack([at, at + 1], axis=1))
        else:
            wanted = 2 * np.arange(rows)
            logits[wanted] = self._logits(orders.sequences.pick(wanted))
            twice = nearest_to_toss_up(predictions.softmax(logits[::2]), swap.share) | orders.alike
            seconds = np.flatnonzero(twice & ~orders.alike)
            logits[2 * seconds + 1] = self._logits(orders.sequences.pick(2 * seconds + 1))
        same = 2 * np.flatnonzero(orders.alike)
        logits[same + 1] = logits[same]
        self._account(rows, rows + len(seconds))
        probabilities = predictions.softmax(logits)
        return probabilities[::2], probabilities[1::2], twice

    def _logits(self, sequences: Sequences, pairs: np.ndarray | None = None) -> np.ndarray:
        """float64 (n, 3) in the order of `LABELS`."""
        if not len(sequences):
            return np.zeros((0, 3))
        raw = self.engine.logits(sequences, pairs=pairs)
        return raw.astype(np.float64)[:, [self.settings.outputs.index(name) for name in LABELS]]

    def _account(self, rows: int, forwards: int) -> None:
        self.report = {**self.engine.report, "rows": rows, "sequences": forwards}
