"""Prediction tables of several judges as one: weights that suit the votes, judged out of fold, kept as plain JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

import tiebreak
from tiebreak import calibrate, pooling, predictions, scoring, storage
from tiebreak.errors import DataError, UsageError
from tiebreak.scoring import Estimate

BEST: Final = "best"


class Blend(BaseModel):
    """How predictions are blended: what the weights file holds.

    Attributes:
        names: Of the tables, in order.
        weights: One a table, sum 1.
        space: Mean of probabilities or of logits.
        rule: Where the weights come from: equal, single (the best table alone) or fitted.
        study: What cross-validation said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    names: list[str]
    weights: list[float]
    space: pooling.Space
    rule: str
    study: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=lambda: {"tiebreak": tiebreak.__version__})


def fit(
    tables: Mapping[str, pl.DataFrame],
    votes: pl.DataFrame,
    *,
    space: pooling.Space = "probabilities",
    rule: str = BEST,
    folds: int = 5,
    seed: int = 0,
) -> Blend:
    """Choose weights for some tables of predictions.

    Args:
        tables: By name; predictions of judges that were not trained on these votes.
        votes: The very rows of the tables, by id, with `label` or `p_a, p_b, p_tie` where people voted.
        space: Mean of probabilities or of logits.
        rule: equal, single, fitted; or best: the one that asks least of the votes among those that the lowest
            out-of-fold log-loss does not beat beyond its interval.
        folds: Of the cross-validation.
        seed: Of folds and resamples.

    Raises:
        UsageError: There are fewer than two tables, or the rule or the space is unknown.
        DataError: Tables and votes do not hold the same ids, or there are too few votes.
    """
    if len(tables) < 2:
        raise UsageError(f"{len(tables)} table to blend", expected="two or more, one a judge")
    if rule not in (BEST, *pooling.RULES):
        raise UsageError(f"--rule {rule!r}", expected=f"one of {BEST}, {', '.join(pooling.RULES)}")
    joined = [calibrate.join(table, votes) for table in tables.values()]
    rows, opinions = joined[0], np.stack([one.probabilities for one in joined])
    found = pooling.fit(opinions, rows.targets, rows.weights, rows.groups, space=space, folds=folds, seed=seed)
    chosen = found.best if rule == BEST else rule
    alone = {
        name: scoring.interval(scoring.row_log_loss(p, rows.targets), rows.groups, weights=rows.weights, seed=seed)
        for name, p in zip(tables, opinions, strict=True)
    }
    return Blend(
        names=list(tables), weights=_weights(chosen, found).tolist(), space=space, rule=chosen,
        study=_study(found, alone, folds, seed),
    )  # fmt: skip


def apply(blend: Blend, tables: Sequence[pl.DataFrame], like: pl.DataFrame | None = None) -> pl.DataFrame:
    """The blended predictions.

    `swap_gap` is 0 where every judge is the same in both orders, and unknown elsewhere.

    Args:
        blend: The weights.
        tables: In the order of `blend.names`.
        like: A table with the ids in the order that is wanted; None: that of the first table.

    Raises:
        DataError: The tables are not as many as the weights, or do not hold the same ids.
    """
    if len(tables) != len(blend.names):
        raise DataError(
            f"{len(tables)} tables for {len(blend.names)} weights", expected=f"one each for {', '.join(blend.names)}"
        )
    like = tables[0] if like is None else like
    aligned = [predictions.align(predictions.validate(table), like) for table in tables]
    pooled = pooling.pool(
        np.stack([predictions.probabilities(table) for table in aligned]), np.array(blend.weights), space=blend.space
    )
    gaps = np.stack([table["swap_gap"].fill_null(np.nan).to_numpy() for table in aligned])
    cut = np.stack([table["truncated"].fill_null(value=False).to_numpy() for table in aligned])
    gap: np.ndarray = np.where((gaps == 0).all(axis=0), 0.0, np.nan)
    truncated: np.ndarray = np.logical_or.reduce(cut)
    return predictions.build(like["id"], pooled, swap_gap=gap, truncated=truncated)


def save(blend: Blend, path: Path) -> None:
    """Write a weights file whole or not at all."""
    text = json.dumps(blend.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    storage.write_text(path, text + "\n")


def load(path: Path) -> Blend:
    """Read a weights file.

    Raises:
        DataError: It is none.
    """
    try:
        found = Blend.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(
            f"{path} holds no weights of a blend ({str(error).splitlines()[0]})", expected="a file of combine blend"
        ) from error
    weights = np.array(found.weights)
    if len(weights) != len(found.names) or not (weights >= 0).all() or not abs(weights.sum() - 1) < 1e-6:
        raise DataError(f"{path}: weights {found.weights} for {found.names}", expected="one a name, with sum 1")
    return found


def _weights(rule: str, found: pooling.Fit) -> np.ndarray:
    if rule == "fitted":
        return found.weights
    k = len(found.weights)
    weights: np.ndarray = np.eye(k)[found.single] if rule == "single" else np.full(k, 1 / k)
    return weights


def _study(found: pooling.Fit, alone: Mapping[str, Estimate], folds: int, seed: int) -> dict[str, Any]:
    by_fold = zip(alone.items(), found.weights, found.by_fold.T, strict=True)
    return {
        "rows": found.rows, "groups": found.groups, "folds": folds, "seed": seed, "best": found.best,
        "tables": {
            name: {"log_loss": _list(loss), "fitted": float(weight), "fitted_by_fold": folds_.tolist()}
            for (name, loss), weight, folds_ in by_fold
        },
        "rules": {
            name: {"log_loss": _list(loss), "change": _list(found.change[name])}
            for name, loss in found.log_loss.items()
        },
    }  # fmt: skip


def _list(estimate: Estimate) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in dataclasses.astuple(estimate)]
