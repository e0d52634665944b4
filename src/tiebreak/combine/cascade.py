"""A cascade of judges, fitted to votes: who is asked first, what goes on to the next, and what that is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, JsonValue

from tiebreak import pooling, predictions
from tiebreak.combine import cascade_study as study
from tiebreak.combine.cascade_study import Goal, Trial, Worth
from tiebreak.combine.evidence import Evidence
from tiebreak.combine.paying import Fitting, Terms
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.cascade.judge import Path, Stage
from tiebreak.judges.cascade.routing import NAMES, Name
from tiebreak.judges.joining import joint_gap
from tiebreak.scoring import Estimate

BEST: Final = "best"
ANSWERS: Final = ("pooled", "last")


class Cascade(BaseModel):
    """A fitted cascade without its judges: what the settings of a bundle hold, and how it was judged.

    Attributes:
        names: Of the judges, in the order in which they are asked.
        costs: Of one row for each, in the unit they were given in.
        space: Whether an answer is a mean of probabilities or of logits.
        stages: One a judge.
        study: What cross-validation said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...]
    costs: tuple[float, ...]
    space: pooling.Space
    stages: tuple[Stage, ...]
    study: dict[str, JsonValue]


def _ignore(step: int) -> None:
    """No progress is shown."""


def fit(
    tables: Mapping[str, pl.DataFrame],
    votes: pl.DataFrame,
    costs: Mapping[str, float],
    goal: Goal,
    *,
    route: str = BEST,
    answer: str = "pooled",
    space: pooling.Space = "probabilities",
    folds: int = 5,
    seed: int = 0,
    advance: Callable[[int], None] = _ignore,
) -> Cascade:
    """Fit a cascade to votes and judge it by nested, grouped cross-validation.

    Args:
        tables: Predictions by name, of judges that were not trained on these votes, in the order they will be asked.
        votes: The very rows of the tables, by id, with `label` or `p_a, p_b, p_tie` where people voted.
        costs: Of one row for each judge, in one unit.
        goal: What the thresholds are chosen for.
        route: entropy, margin, gain, or best: the simplest within noise of the lowest log-loss over the curve.
        answer: pooled: the judges asked so far, by fitted weights; last: the last one asked, alone.
        space: Mean of probabilities or of logits.
        folds: Of the cross-validation.
        seed: Of folds and resamples.
        advance: Told after each step; there are `folds` and one for each route.

    Raises:
        UsageError: There are fewer than two tables, a choice is unknown, or a cost is missing or cannot be paid.
        DataError: Tables and votes do not hold the same ids, or there are too few votes.
    """
    _check(tables, costs, goal, route, answer, space)
    evidence = Evidence.of(tables, votes)
    each = np.array([costs[name] for name in tables])
    terms = Terms(tuple((each / each.sum()).tolist()), space, answer == "last")
    if goal.budget is not None and goal.budget < terms.costs[0]:
        raise UsageError(
            f"a budget of {100 * goal.budget:g} % of asking everybody",
            expected=f"at least what the first judge costs, {100 * terms.costs[0]:.4g} %",
        )
    bys: Sequence[Name] = NAMES if route == BEST else tuple(name for name in NAMES if name == route)
    trials: dict[Name, Trial] = {}
    for by in bys:
        trials[by] = study.curve(evidence, terms, by, folds, seed)
        advance(1)
    judged = study.judged(evidence, terms, bys, goal, folds, seed, advance)
    chosen, price = study.choose(evidence, terms, bys, goal, seed)
    fitting = Fitting(evidence, terms)
    return Cascade(
        names=tuple(tables), costs=tuple(each.tolist()), space=space,
        stages=fitting.stages(fitting.at_price(chosen, price)),
        study={
            "rows": len(evidence.targets), "groups": len(np.unique(evidence.groups)), "folds": folds, "seed": seed,
            "goal": dataclasses.asdict(goal), "answer": answer, "route": chosen, "price": price,
            "shares": list(terms.costs),
            "judges": [_list(one) for one in study.alone(evidence, seed)],
            "everybody": _everybody(evidence, judged, seed),
            "chosen": _figures(study.worth(evidence, judged, seed)[0]) | {"answered": _answered(evidence, judged)},
            "curves": {by: _curve(evidence, trial, seed) for by, trial in trials.items()},
        },
    )  # fmt: skip


def apply(
    cascade: Cascade, tables: Sequence[pl.DataFrame], like: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, np.ndarray]:
    """The predictions of a cascade whose judges have all been asked already.

    Args:
        cascade: As fitted.
        tables: In the order of `cascade.names`.
        like: A table with the ids in the order that is wanted; None: that of the first table.

    Returns:
        The predictions, and the stage that answered each row.

    Raises:
        DataError: The tables are not as many as the judges, or do not hold the same ids.
    """
    if len(tables) != len(cascade.names):
        raise DataError(
            f"{len(tables)} tables for {len(cascade.names)} judges", expected=f"one each for {', '.join(cascade.names)}"
        )
    like = tables[0] if like is None else like
    aligned = [predictions.align(predictions.validate(table), like) for table in tables]
    path = Path(cascade.stages, cascade.space, like.height)
    gap, cut = np.zeros(like.height), np.zeros(like.height, dtype=bool)
    for place, table in enumerate(aligned):
        rows = path.open
        path.step(predictions.probabilities(table)[rows])
        gap[rows] = joint_gap([one[rows] for one in aligned[: place + 1]])
        cut[rows] |= table["truncated"].fill_null(value=False).to_numpy()[rows]
    return predictions.build(like["id"], path.answers, swap_gap=gap, truncated=cut), path.stage


def _check(
    tables: Mapping[str, pl.DataFrame], costs: Mapping[str, float], goal: Goal, route: str, answer: str, space: str
) -> None:
    if len(tables) < 2:
        raise UsageError(f"{len(tables)} judge for a cascade", expected="two or more, the cheapest first")
    if route not in (BEST, *NAMES):
        raise UsageError(f"--route {route!r}", expected=f"one of {', '.join((BEST, *NAMES))}")
    if answer not in ANSWERS:
        raise UsageError(f"--answer {answer!r}", expected=f"one of {', '.join(ANSWERS)}")
    if space not in pooling.SPACES:
        raise UsageError(f"--space {space!r}", expected=f"one of {', '.join(pooling.SPACES)}")
    missing = [name for name in tables if name not in costs]
    if missing:
        raise UsageError(f"no cost of {', '.join(missing)}", expected="--cost NAME=C for each, in one unit")
    wrong = [name for name in tables if not (np.isfinite(costs[name]) and costs[name] >= 0)]
    if wrong or not sum(costs[name] for name in tables) > 0:
        raise UsageError(f"costs {dict(costs)}", expected="numbers from 0 up, not all 0")


def _everybody(evidence: Evidence, trial: Trial, seed: int) -> dict[str, JsonValue]:
    whole = dataclasses.replace(trial, losses=trial.every[None], costs=np.ones((1, len(trial.every))))
    return _figures(study.worth(evidence, whole, seed)[0])


def _curve(evidence: Evidence, trial: Trial, seed: int) -> list[JsonValue]:
    return [_figures(worth) for worth in study.worth(evidence, trial, seed)]


def _answered(evidence: Evidence, trial: Trial) -> list[JsonValue]:
    """The share of the rows that each stage answers."""
    shares = np.bincount(trial.stages[0], weights=evidence.weights, minlength=len(evidence.names))
    return (shares / shares.sum()).tolist()  # type: ignore[no-any-return]


def _figures(worth: Worth) -> dict[str, JsonValue]:
    return {field.name: _list(getattr(worth, field.name)) for field in dataclasses.fields(worth)}


def _list(estimate: Estimate) -> list[JsonValue]:
    return [value if np.isfinite(value) else None for value in dataclasses.astuple(estimate)]
