"""What a person may choose about a retrieval judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tiebreak.errors import UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.retrieval.encoder import DEFAULT

INDICES: Final = ("auto", "flat", "hnsw", "ivf")


@dataclass(frozen=True)
class Recipe:
    """Choices; what is None is chosen by nested cross-validation.

    Attributes:
        name: Name of the judge.
        base: The sentence encoder.
        neighbours: How many count at most; a vote and its mirror image are two.
        mix: Share of the answers in the similarity.
        bandwidth: Of the kernel over similarities.
        shrinkage: Votes that the prior counts for.
        index: auto, flat, hnsw or ivf.
        folds: Of both cross-validations.
        sample: Rows that are held out to choose and to measure, at most; the neighbours come from all others.
        seed: Seed of everything random.
        licences: Licence of each source, by its name.
        command: The command line, for the card.
    """

    name: str = "neighbours"
    base: Base = field(default_factory=lambda: Base(name=DEFAULT))
    neighbours: int | None = None
    mix: float | None = None
    bandwidth: float | None = None
    shrinkage: float | None = None
    index: str = "auto"
    folds: int = 5
    sample: int = 2000
    seed: int = 0
    licences: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        if self.folds < 3:
            raise UsageError(
                f"{self.folds} folds", expected="3 or more: one to judge, one to choose, one to learn from"
            )
        if self.index not in INDICES:
            raise UsageError(f"index {self.index!r}", expected=f"one of {', '.join(INDICES)}")
        above = {"neighbours": self.neighbours, "bandwidth": self.bandwidth, "shrinkage": self.shrinkage}
        for name, value in above.items():
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} {value}", expected="a finite number above 0")
        if self.mix is not None and not 0 <= self.mix <= 1:
            raise UsageError(f"mix {self.mix}", expected="a share from 0 (prompts alone) to 1 (answers alone)")
        if self.sample < 1:
            raise UsageError(f"sample {self.sample}", expected="1 row or more")
