"""What a cascade is worth, out of fold: the whole curve of cost and quality, and the point that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.combine.evidence import Evidence
from tiebreak.combine.paying import Answers, Fitting, Terms
from tiebreak.errors import UsageError
from tiebreak.judges.cascade.routing import Name
from tiebreak.scoring import Bootstrap, Estimate, row_log_loss
from tiebreak.scoring.bootstrap import ratio

POINTS: Final = 13
"""Points of a curve, from asking nobody but the cheapest judge to asking everybody."""

INNER_POINTS: Final = 7
INNER_FOLDS: Final = 4
_ROUGH: Final = 16


@dataclass(frozen=True)
class Goal:
    """What the thresholds are chosen for; one of the three is given.

    Attributes:
        budget: Cost at most, as a share of asking every judge about every row.
        target: Log-loss at most, for as little as possible.
        keep: Share of what the pool of all gains over the first judge that must be kept, for as little as possible.
    """

    budget: float | None = None
    target: float | None = None
    keep: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.budget, self.target, self.keep) if value is not None]
        if len(given) != 1:
            raise UsageError(
                f"{len(given)} goals for a cascade", expected="one of a budget, a target log-loss, a share to keep"
            )
        if not 0 < given[0] <= (np.inf if self.target is not None else 1):
            raise UsageError(f"a goal of {given[0]}", expected="a share from 0 to 1, or a log-loss above 0")

    def __str__(self) -> str:
        if self.budget is not None:
            return f"a budget of {100 * self.budget:g} % of asking everybody"
        if self.target is not None:
            return f"a log-loss of {self.target:g}"
        return f"{100 * (self.keep or 0):g} % of the gain of asking everybody"


@dataclass(frozen=True)
class Trial:
    """What some policies do to rows that they were not fitted on.

    Attributes:
        losses: Log-loss of each row under each policy, shape (policies, rows).
        costs: What each row costs, the same shape.
        stages: The stage that answered each row, the same shape.
        first: Log-loss of the first judge, shape (rows,).
        every: Log-loss of the last stage, which has asked everybody.
    """

    losses: np.ndarray
    costs: np.ndarray
    stages: np.ndarray
    first: np.ndarray
    every: np.ndarray


def curve(evidence: Evidence, terms: Terms, by: Name, folds: int, seed: int, points: int = POINTS) -> Trial:
    """The policies of evenly spaced budgets, each fitted on the other folds."""
    budgets = np.linspace(terms.costs[0], 1.0, points)
    trial = _empty(points, evidence)
    for held_out, fitting, answers in _parts(evidence, terms, folds, seed):
        for point, budget in enumerate(budgets):
            routes = fitting.at_price(by, fitting.price_of(by, float(budget), steps=_ROUGH))
            _fill(trial, point, held_out, answers, answers.run(routes, terms.costs))
    return trial


def choose(evidence: Evidence, terms: Terms, bys: Sequence[Name], goal: Goal, seed: int) -> tuple[Name, float]:
    """The route and the price that suit a goal, by cross-validation among these rows alone.

    Args:
        evidence: The rows.
        terms: Costs and the kind of answer.
        bys: Routes to choose from, the simplest first; it is kept unless the best one beats it beyond its interval.
        goal: What the price is for.
        seed: Of folds and resamples.
    """
    if len(bys) == 1 and goal.budget is not None:
        return bys[0], Fitting(evidence, terms).price_of(bys[0], goal.budget)
    trials = {by: curve(evidence, terms, by, INNER_FOLDS, seed, INNER_POINTS) for by in bys}
    by = best_route(evidence, trials, seed)
    budget = _cost_for(trials[by], evidence, goal) if goal.budget is None else goal.budget
    return by, Fitting(evidence, terms).price_of(by, budget)


def best_route(evidence: Evidence, trials: dict[Name, Trial], seed: int) -> Name:
    """The simplest route that the one of lowest mean log-loss over the curve does not beat beyond its interval."""
    bootstrap, w = Bootstrap(evidence.groups, seed=seed), evidence.weights
    draws = {by: bootstrap.sum(trial.losses.mean(axis=0) * w) / bootstrap.sum(w) for by, trial in trials.items()}
    lowest = min(draws, key=lambda by: float(draws[by][0]))
    return next(by for by in draws if by == lowest or not Estimate.of(draws[by] - draws[lowest]).low > 0)


def judged(
    evidence: Evidence, terms: Terms, bys: Sequence[Name], goal: Goal, folds: int, seed: int,
    advance: Callable[[int], None],
) -> Trial:  # fmt: skip
    """The policy that suits the goal, chosen and fitted on the other folds: nothing it chose has seen its rows."""
    trial = _empty(1, evidence)
    for held_out, fitting, answers in _parts(evidence, terms, folds, seed):
        by, price = choose(fitting.evidence, terms, bys, goal, seed)
        _fill(trial, 0, held_out, answers, answers.run(fitting.at_price(by, price), terms.costs))
        advance(1)
    return trial


@dataclass(frozen=True)
class Worth:
    """A policy in figures, with 95 % intervals by group bootstrap.

    Attributes:
        cost: Share of asking everybody.
        log_loss: In nats.
        kept: Share of the gain of asking everybody over the first judge; not defined where the votes do not show that
            there is one.
        against_first: Log-loss minus that of the first judge.
        against_all: Log-loss minus that of asking everybody.
    """

    cost: Estimate
    log_loss: Estimate
    kept: Estimate
    against_first: Estimate
    against_all: Estimate


def worth(evidence: Evidence, trial: Trial, seed: int) -> list[Worth]:
    """The figures of each policy of a trial."""
    bootstrap, w = Bootstrap(evidence.groups, seed=seed), evidence.weights
    total = bootstrap.sum(w)

    def mean(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = bootstrap.sum(values * w) / total
        return found

    first, every = mean(trial.first), mean(trial.every)
    gain = first - every if Estimate.of(every - first).high < 0 else np.zeros_like(first)
    found = []
    for loss, cost in zip(map(mean, trial.losses), map(mean, trial.costs), strict=True):
        kept = ratio(first - loss, np.maximum(gain, 0.0))
        figures = (cost, loss, kept, loss - first, loss - every)
        found.append(Worth(*(Estimate.of(draws) for draws in figures)))
    return found


def alone(evidence: Evidence, seed: int) -> list[Estimate]:
    """The log-loss of each judge by itself."""
    bootstrap, w = Bootstrap(evidence.groups, seed=seed), evidence.weights
    total = bootstrap.sum(w)
    return [Estimate.of(bootstrap.sum(row_log_loss(p, evidence.targets) * w) / total) for p in evidence.opinions]


def _cost_for(trial: Trial, evidence: Evidence, goal: Goal) -> float:
    """The least cost that reaches the goal, on the curve, straight between its points.

    Where no point reaches it, the cost of the point of least log-loss.
    """
    w = evidence.weights / evidence.weights.sum()
    losses, costs = trial.losses @ w, trial.costs @ w
    first, every = float(trial.first @ w), float(trial.every @ w)
    wanted = goal.target if goal.target is not None else first - (goal.keep or 0.0) * (first - every)
    reached = np.flatnonzero(losses <= wanted)
    if not len(reached):
        return float(costs[int(losses.argmin())])
    point = int(reached[0])
    if point == 0:
        return float(costs[0])
    share = (losses[point - 1] - wanted) / (losses[point - 1] - losses[point])
    return float(costs[point - 1] + share * (costs[point] - costs[point - 1]))


def _parts(
    evidence: Evidence, terms: Terms, folds: int, seed: int
) -> Iterator[tuple[np.ndarray, Fitting, Answers]]:  # fmt: skip
    """For each fold its rows, what was fitted on the others, and what that would answer to them."""
    fold = evidence.folds(folds, seed)
    for number in range(folds):
        held_out = fold == number
        fitting = Fitting(evidence.take(~held_out), terms)
        yield held_out, fitting, fitting.answers(evidence.take(held_out))


def _empty(policies: int, evidence: Evidence) -> Trial:
    shape = (policies, len(evidence.targets))
    first, every = np.zeros((2, shape[1]))
    return Trial(np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64), first, every)


def _fill(
    trial: Trial, point: int, rows: np.ndarray, answers: Answers, ran: tuple[np.ndarray, np.ndarray]
) -> None:  # fmt: skip
    stage, cost = ran
    trial.losses[point, rows] = answers.losses[stage, np.arange(len(stage))]
    trial.costs[point, rows], trial.stages[point, rows] = cost, stage
    trial.first[rows], trial.every[rows] = answers.losses[0], answers.losses[-1]
