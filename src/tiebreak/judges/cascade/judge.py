"""Several judges as one that asks the dear ones only where that pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, model_validator

from tiebreak import pooling, predictions
from tiebreak.errors import UsageError
from tiebreak.judges import members
from tiebreak.judges.cascade.routing import NEAR, Route
from tiebreak.judges.joining import gaps, pooled
from tiebreak.judges.judge import Scores
from tiebreak.judges.members import CompositeJudge
from tiebreak.judges.runtime import Runtime, Swap


class Stage(BaseModel):
    """What is done once so many judges were asked.

    Attributes:
        weights: Of those judges in the answer, in order, sum 1.
        route: Which rows go on to the next judge; None at the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: tuple[float, ...]
    route: Route | None


class Settings(members.Settings):
    """Settings of a cascade.

    Attributes:
        stages: One a member, in the order in which they are asked.
        space: Whether an answer is a mean of probabilities or of logits.
    """

    stages: tuple[Stage, ...]
    space: pooling.Space

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if len(self.stages) != len(self.members):
            raise ValueError(f"{len(self.stages)} stages for {len(self.members)} members")
        for place, stage in enumerate(self.stages):
            w = np.array(stage.weights)
            if len(w) != place + 1 or not (w >= 0).all() or not abs(w.sum() - 1) < 1e-6:
                raise ValueError(f"stage {place + 1}: weights {list(stage.weights)} are no {place + 1} parts of 1")
            if (stage.route is None) != (place == len(self.stages) - 1):
                raise ValueError(f"stage {place + 1} must say where rows go unless it is the last")
        return self


class Path:
    """The rows on their way through the stages: what they are answered, and by which stage.

    Args:
        stages: Of the cascade.
        space: Whether an answer is a mean of probabilities or of logits.
        rows: How many there are.

    Attributes:
        answers: Probabilities, shape (rows, 3); those of a row are final once it is no longer open.
        stage: The stage that answered each row.
        open: Indices of the rows that the next judge has to be asked about.
        near: Rows whose worth was as near to a price as rounding goes.
    """

    def __init__(self, stages: Sequence[Stage], space: pooling.Space, rows: int) -> None:
        self.stages, self.space = stages, space
        self.answers = np.zeros((rows, 3))
        self.stage = np.zeros(rows, dtype=np.int64)
        self.open = np.arange(rows)
        self.near = 0
        self._opinions = np.zeros((0, rows, 3))

    def step(self, opinion: np.ndarray) -> None:
        """Take in what the next judge said of the open rows, shape (open rows, 3)."""
        place = len(self._opinions)
        self._opinions = np.concatenate([self._opinions, opinion[None]])
        stage = self.stages[place]
        answer = pooled(self._opinions, stage.weights, self.space)
        self.answers[self.open], self.stage[self.open] = answer, place
        if stage.route is None:
            self.open = self.open[:0]
            return
        worth = stage.route.worth(answer, self._opinions)
        self.near += int((np.abs(worth - stage.route.price) < NEAR).sum())
        on = stage.route.goes_on(worth)
        self.open, self._opinions = self.open[on], self._opinions[:, on]


class CascadeJudge(CompositeJudge):
    """A cheap judge first, dearer ones where they are expected to pay. Swap-equivariant where its members are.

    Each row gets exactly what its stage makes of the members' own answers to it; how rows are cut into tables does not
    matter.
    """

    kind: ClassVar[str] = "cascade"
    settings_kind: ClassVar[type[members.Settings]] = Settings
    settings: Settings

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run. A choice goes to the members that know it.

        Raises:
            UsageError: No member knows a choice, or the rows of a table would depend on each other.
        """
        if runtime.swap is not None and Swap.parse(runtime.swap).policy == "uncertain":
            raise UsageError(
                f"--swap {runtime.swap}: a share of the rows that reach a judge would be judged in both orders, and "
                "which do depends on the others",
                expected="both or none with a cascade",
            )
        super().run_with(runtime)

    def score(self, table: pl.DataFrame) -> Scores:
        """Ask the judges one after the other, each about the rows that are still open.

        `report` says how many rows each was asked about, and how many were `near` a price, within rounding.
        """
        self.report = {}
        path = Path(self.settings.stages, self.settings.space, table.height)
        gap, truncated = np.zeros(table.height), np.zeros(table.height, dtype=bool)
        same, unknown = np.ones(table.height, dtype=bool), np.zeros(table.height, dtype=bool)
        for place in range(len(self.settings.members)):
            rows = path.open
            if not len(rows):
                break
            said = self._ask(place, table if len(rows) == table.height else table[rows])
            path.step(predictions.probabilities(said))
            own = gaps(said)
            same[rows] &= own == 0
            unknown[rows] |= np.isnan(own)
            alone = self.settings.stages[place].weights[-1] == 1.0
            gap[rows] = np.where(unknown[rows], np.nan, own) if alone else np.where(same[rows], 0.0, np.nan)
            truncated[rows] |= said["truncated"].to_numpy()
        self.report["near"] = path.near
        return Scores(path.answers, gap, truncated)

    def costs(self) -> np.ndarray:
        """What asking each member costs for one row, in the unit of the bundle."""
        return np.array([member.cost or 0.0 for member in self.settings.members])
