"""What a person may choose about training a features judge."""

from __future__ import annotations

from dataclasses import dataclass, field

from tiebreak.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """Choices of a training run; the defaults made the embedded judge.

    Attributes:
        name: Name of the judge.
        folds: Folds of the cross-validation.
        repeats: How often the cross-validation is repeated with other folds.
        seed: Seed of everything random.
        support: Weight of a row from a supporting source, against 1 for the target.
        licences: Licence of each source, by its name.
        command: The command line, for the card.
        fold: Leave the rows whose column `fold` holds this number out, all else is trained on: the judge is a fold
            teacher for them. None trains on all.
    """

    name: str = "features"
    folds: int = 5
    repeats: int = 1
    seed: int = 0
    support: float = 0.1
    licences: dict[str, str] = field(default_factory=dict)
    command: str = ""
    fold: int | None = None

    @property
    def title(self) -> str:
        """Name of the judge, with its fold."""
        return self.name if self.fold is None else f"{self.name}-fold-{self.fold}"

    def __post_init__(self) -> None:
        if self.folds < 2 or self.repeats < 1:
            raise UsageError(f"{self.folds} folds x {self.repeats}", expected="at least 2 folds and 1 repeat")
        if not 0 <= self.support <= 1:
            raise UsageError(f"support weight {self.support}", expected="a number from 0 to 1")
