"""What an audit collects: faults (the labels are refused), warnings, and everything measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from pydantic import JsonValue

from tiebreak.errors import GateError
from tiebreak.scoring import Estimate


@dataclass
class Findings:
    """What was found.

    Attributes:
        faults: Why the labels should not be learned from, in plain words.
        warnings: What a careful user should know and nothing is refused for.
        figures: Everything measured; estimates as [value, low, high].
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, JsonValue] = field(default_factory=dict)

    def note(self, **figures: JsonValue | Estimate) -> None:
        """Keep figures by name."""
        for name, value in figures.items():
            self.figures[name] = list(dataclasses.astuple(value)) if isinstance(value, Estimate) else value

    def refuse(self, where: str, mend: str) -> None:
        """Raise if there are faults.

        Raises:
            GateError: With every reason.
        """
        if self.faults:
            raise GateError(
                f"{where} is refused: {'; '.join(self.faults)}",
                expected="a label of its own for every row, from a teacher that knows more than the class shares",
                mend=mend,
            )
