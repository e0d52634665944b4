"""Several judges as one that asks them all."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import model_validator

from tiebreak import predictions
from tiebreak.judges import members
from tiebreak.judges.blend.mixing import Mix
from tiebreak.judges.joining import joint_gap, least_kept
from tiebreak.judges.judge import Scores
from tiebreak.judges.members import CompositeJudge


class Settings(members.Settings):
    """Settings of a blend.

    Attributes:
        mix: How the members' answers become one.
        rule: Where the weights come from: equal, single or fitted.
    """

    mix: Mix
    rule: str

    @model_validator(mode="after")
    def _a_weight_each(self) -> Self:
        if len(self.mix.weights) != len(self.members):
            raise ValueError(f"{len(self.mix.weights)} weights for {len(self.members)} members")
        return self


class BlendJudge(CompositeJudge):
    """The weighted mean of what its members say. Swap-equivariant where they are."""

    kind: ClassVar[str] = "blend"
    settings_kind: ClassVar[type[members.Settings]] = Settings
    settings: Settings

    def score(self, table: pl.DataFrame) -> Scores:
        """The pooled answers of the members that have a weight, each with its own calibration."""
        self.report = {}
        mix = self.settings.mix
        said = [self._ask(place, table) for place in mix.heard]
        opinions = np.stack([predictions.probabilities(one) for one in said])
        truncated: np.ndarray = np.logical_or.reduce([one["truncated"].to_numpy() for one in said])
        return Scores(mix.pool(opinions, table), joint_gap(said), truncated, least_kept(said))
