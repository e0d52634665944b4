"""Fitting a cascade: what going on is worth at each stage, and the price that makes ends meet.

With a price of lambda nats for a unit of cost, the best policy maximises the log-loss saved minus lambda times the cost
(the Lagrangian of "least log-loss for a budget"). It is found from the last stage backwards, as optimal stopping is: a
row goes on where what it is expected to save, from there on and net of what it is expected to cost later, exceeds the
price of the next judge. A higher price asks less; the price at which the votes cost the budget is found by bisection.

What going on saves is a difference of two log-losses, and one vote says little about it. So a regression starts from
what the last stage, which has asked everybody, expects of it (the difference of the two logarithms, weighed by its own
probabilities: a divergence, without the noise of votes), and the votes correct that by as much as there are of them.
Where judges are calibrated the first part alone would do; where one is surer than it should be, the second finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from tiebreak import pooling
from tiebreak.combine.evidence import Evidence
from tiebreak.judges.cascade.judge import Stage
from tiebreak.judges.cascade.routing import Name, Route, features
from tiebreak.judges.joining import pooled
from tiebreak.pooling.pools import logs, over_classes
from tiebreak.scoring import row_log_loss

EXPECTED_ROWS: Final = 30
CORRECTED_ROWS: Final = 1000
"""The ridges of the two parts: as if so many rows had said that nothing makes a difference. Two LLMs' answers to 14,370
votes, fitted on 250, 1,000, 4,000 and 10,000 of them, spoke for these."""

LEAST_SLOPE: Final = 1e-3
"""Nats a standard deviation: where votes see no difference, the more undecided rows still go on first."""

STEPS: Final = 24
"""Halvings of the interval in which the price of a budget lies."""

_ROUNDING: Final = 1e-12

HIGHEST: Final = 1e6
"""A price, in nats for asking everybody, at which nobody goes on."""


@dataclass(frozen=True)
class Terms:
    """What is agreed before anything is fitted.

    Attributes:
        costs: Of asking each judge, as shares of asking all of them; sum 1.
        space: Whether an answer is a mean of probabilities or of logits.
        last_alone: Whether the last judge asked answers alone; else the judges asked so far are pooled.
    """

    costs: tuple[float, ...]
    space: pooling.Space
    last_alone: bool


class Fitting:
    """The stages of a cascade, fitted on some rows.

    Args:
        evidence: The rows.
        terms: Costs and the kind of answer.

    Attributes:
        weights: Of the judges asked so far in the answer of each stage.
    """

    def __init__(self, evidence: Evidence, terms: Terms) -> None:
        self.evidence, self.terms = evidence, terms
        self.weights = [self._weights(place) for place in range(len(terms.costs))]

    def _weights(self, place: int) -> np.ndarray:
        if self.terms.last_alone or place == 0:
            alone: np.ndarray = np.eye(place + 1)[place]
            return alone
        e = self.evidence
        return pooling.best_weights(e.opinions[: place + 1], e.targets, e.weights, space=self.terms.space)

    @cached_property
    def own(self) -> Answers:
        """The answers to the rows of the fit."""
        return self.answers(self.evidence)

    def answers(self, evidence: Evidence) -> Answers:
        """What each stage would answer to some rows, and what that loses."""
        said = [
            pooled(evidence.opinions[: place + 1], weights, self.terms.space)
            for place, weights in enumerate(self.weights)
        ]
        return Answers(evidence, said, np.stack([row_log_loss(p, evidence.targets) for p in said]))

    def at_price(self, by: Name, price: float) -> list[Route]:
        """The routes at a price in nats for asking all judges."""
        routes: list[Route] = []
        value = np.zeros(len(self.evidence.targets))
        losses = self.own.losses
        for place in reversed(range(len(self.weights) - 1)):
            saved, expected = losses[place] - losses[place + 1], self.own.expected[place]
            toll = price * self.terms.costs[place + 1]
            bias, weights = self._regression(by, place).fit(expected + value, saved - expected)
            route = Route(by=by, bias=bias, weights=weights, price=toll)
            value = np.maximum(self.own.worth(route, place) - toll, 0.0)
            routes.insert(0, route)
        return routes

    def price_of(self, by: Name, budget: float, *, steps: int = STEPS) -> float:
        """The lowest price at which these rows cost no more than a share of asking everybody, found by bisection.

        At price 0 a row goes on wherever that is expected to help, so that a large budget may not be used up.
        """
        if self.cost(self.at_price(by, 0.0)) <= budget:
            return 0.0
        if budget <= self.terms.costs[0] + _ROUNDING:
            return HIGHEST
        low, high = 0.0, 0.01
        while self.cost(self.at_price(by, high)) > budget and high < HIGHEST:
            low, high = high, high * 4
        for _ in range(steps):
            middle = (low + high) / 2
            if self.cost(self.at_price(by, middle)) > budget:
                low = middle
            else:
                high = middle
        return high

    def cost(self, routes: Sequence[Route]) -> float:
        """What these rows cost on average, as a share of asking everybody."""
        e = self.evidence
        return float(self.own.run(routes, self.terms.costs)[1] @ e.weights / e.weights.sum())

    def stages(self, routes: Sequence[Route]) -> tuple[Stage, ...]:
        """As a bundle holds them."""
        pairs = zip(self.weights, [*routes, None], strict=True)
        return tuple(Stage(weights=tuple(weights.tolist()), route=route) for weights, route in pairs)

    def _regression(self, by: Name, place: int) -> Regression:
        key = (by, place)
        if key not in self._regressions:
            self._regressions[key] = Regression(self.own.features(by, place), self.evidence.weights)
        return self._regressions[key]

    @cached_property
    def _regressions(self) -> dict[tuple[Name, int], Regression]:
        return {}


class Answers:
    """What the stages of a cascade would answer to some rows.

    Args:
        evidence: The rows.
        said: The answer of each stage to every row, each of shape (rows, 3).
        losses: Their log-loss, shape (stages, rows).
    """

    def __init__(self, evidence: Evidence, said: list[np.ndarray], losses: np.ndarray) -> None:
        self.evidence, self.said, self.losses = evidence, said, losses
        self._features: dict[tuple[str, int], list[np.ndarray]] = {}

    @cached_property
    def expected(self) -> list[np.ndarray]:
        """What the last stage expects each stage to save beside the one before it, in nats, shape (rows,) each."""
        last = self.said[-1]
        pairs = zip(self.said, self.said[1:], strict=False)
        return [over_classes(last * (logs(later) - logs(sooner))) for sooner, later in pairs]

    def features(self, by: str, place: int) -> list[np.ndarray]:
        """What the worth of going on from a stage is expected from."""
        key = (by, place)
        if key not in self._features:
            self._features[key] = features(by, self.said[place], self.evidence.opinions[: place + 1])
        return self._features[key]

    def worth(self, route: Route, place: int) -> np.ndarray:
        """Nats that going on from a stage is expected to save."""
        return route.of(self.features(route.by, place))

    def run(self, routes: Sequence[Route], costs: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The stage that answers each row, and what the row costs."""
        rows = self.losses.shape[1]
        stage, on, cost = np.zeros(rows, dtype=np.int64), np.ones(rows, dtype=bool), np.full(rows, costs[0])
        for place, route in enumerate(routes):
            on = on & route.goes_on(self.worth(route, place))
            stage[on] = place + 1
            cost[on] += costs[place + 1]
        return stage, cost


class Regression:
    """Weighted ridge regression on fixed features, in two parts; a single feature has a slope above 0.

    Args:
        columns: The features, each of shape (rows,).
        weights: Of the rows.
    """

    def __init__(self, columns: Sequence[np.ndarray], weights: np.ndarray) -> None:
        x = np.stack(columns, axis=1)
        self._shares = weights / weights.sum()
        self._centre = self._shares @ x
        spread = np.sqrt(self._shares @ (x - self._centre) ** 2)
        self._scale = np.where(spread > 0, spread, 1.0)
        self._x = (x - self._centre) / self._scale
        squares = self._x.T @ (self._x * self._shares[:, None])
        self._inverse, self._correcting = (
            np.linalg.inv(squares + rows / len(x) * np.eye(x.shape[1])) for rows in (EXPECTED_ROWS, CORRECTED_ROWS)
        )

    def fit(self, expected: np.ndarray, rest: np.ndarray) -> tuple[float, tuple[float, ...]]:
        """Bias and weights, for the features as they are.

        Args:
            expected: What is expected of each row, without noise.
            rest: What was seen beyond that.
        """
        mean = float(self._shares @ (expected + rest))
        slopes = self._inverse @ self._moments(expected) + self._correcting @ self._moments(rest)
        if len(slopes) == 1:
            slopes = np.maximum(slopes, LEAST_SLOPE)
        slopes = slopes / self._scale
        return mean - float(slopes @ self._centre), tuple(slopes.tolist())

    def _moments(self, y: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._x.T @ (self._shares * (y - self._shares @ y))
        return found
