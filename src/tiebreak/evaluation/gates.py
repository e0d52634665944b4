"""Quality gates: conditions such as `log_loss>1.05` under which an evaluation counts as failed."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tiebreak.errors import GateError, UsageError
from tiebreak.evaluation import audits, ledger, scores
from tiebreak.evaluation.result import Evaluation

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_GRAMMAR: Final = re.compile(r"\s*([a-z_0-9.]+)\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*", re.ASCII)
_BOUNDS: Final = ("low", "high")
_BASELINES: Final = ("uniform", "prior", "length")
_DIFFERENCES: Final = ("log_loss", "accuracy", "brier")


def names() -> list[str]:
    """Every figure that a gate can name; each can be followed by `.low` or `.high` for a bound of its interval."""
    return [
        *scores.NAMES,
        *audits.TITLES,
        *ledger.TITLES,
        *(f"{name}.difference" for name in _BASELINES),
        *(f"difference.{name}" for name in _DIFFERENCES),
    ]


@dataclass(frozen=True)
class Gate:
    """A condition that must not hold.

    Attributes:
        text: As it was given.
        figure: Name of the figure, one of `names()`.
        bound: `low` or `high` where a bound of the interval is meant, else None.
        comparison: `<`, `<=`, `>` or `>=`.
        limit: The number on the right.
    """

    text: str
    figure: str
    bound: str | None
    comparison: str
    limit: float

    def failure(self, evaluation: Evaluation) -> str | None:
        """Why the gate fails, or None where it passes. A figure that was not measured fails."""
        estimate = evaluation.figures().get(self.figure)
        value = math.nan if estimate is None else getattr(estimate, self.bound or "value")
        if estimate is None or math.isnan(value):
            return f"{self.text}: {self.figure} could not be measured"
        if not _OPERATORS[self.comparison](value, self.limit):
            return None
        return f"{self.text}: {self.figure} is {estimate}"


def parse(text: str) -> Gate:
    """Read a gate such as `log_loss>1.05`, `tie_recall<0.2` or `prior.difference.high>0`.

    Raises:
        UsageError: It is not of the form FIGURE OPERATOR NUMBER, or there is no such figure.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise UsageError(
            f"gate {text!r} cannot be read",
            expected="FIGURE, one of < <= > >=, and a number, in quotes for the shell",
            mend="--fail-if 'log_loss>1.05'",
        )
    figure, comparison, limit = match.groups()
    bound = None
    if figure not in names() and figure.endswith(tuple(f".{bound}" for bound in _BOUNDS)):
        figure, _, bound = figure.rpartition(".")
    if figure not in names():
        near = difflib.get_close_matches(figure, names(), n=1, cutoff=0.0)[0]
        raise UsageError(
            f"gate {text!r}: unknown figure {figure!r}; did you mean {near!r}?",
            expected="a name of metrics.json, for example log_loss, accuracy, ece, tie_recall, prior.difference",
        )
    return Gate(text.strip(), figure, bound, comparison, float(limit))


def enforce(evaluation: Evaluation, gates: Iterable[Gate]) -> None:
    """Raise if any gate fails.

    Raises:
        GateError: Names every failed gate with the figure and its interval.
    """
    failures = [failure for gate in gates if (failure := gate.failure(evaluation)) is not None]
    if failures:
        raise GateError(f"{len(failures)} quality gate{'s' * (len(failures) > 1)} failed: " + "; ".join(failures))
