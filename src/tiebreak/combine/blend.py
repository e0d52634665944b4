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
from tiebreak import bundle, pooling, predictions, scoring, storage
from tiebreak.combine import slicing
from tiebreak.combine.evidence import Evidence
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.blend import mixing
from tiebreak.judges.blend.mixing import Mix, Slices
from tiebreak.judges.joining import joint_gap
from tiebreak.scoring import Estimate

BEST: Final = "best"
SLICED: Final = "sliced"
METRICS: Final = "blend"
"""Where a bundle keeps the study, among its metrics."""


class Blend(BaseModel):
    """How predictions are blended: what the weights file holds.

    Attributes:
        names: Of the tables, in order.
        weights: One a table, sum 1.
        space: Mean of probabilities or of logits.
        rule: Where the weights come from: equal, single (the best table alone), fitted, or sliced.
        slices: Weights of slices of the rows, where they have some of their own.
        study: What cross-validation said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    names: list[str]
    weights: list[float]
    space: pooling.Space
    rule: str
    slices: Slices | None = None
    study: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=lambda: {"tiebreak": tiebreak.__version__})

    @property
    def mix(self) -> Mix:
        """The arithmetic."""
        return Mix(weights=tuple(self.weights), space=self.space, slices=self.slices)


def fit(
    tables: Mapping[str, pl.DataFrame],
    votes: pl.DataFrame,
    *,
    space: pooling.Space = "probabilities",
    rule: str = BEST,
    slices: str | None = None,
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
        slices: agreement, turns or length: weigh slices of the rows apart as well, as the rule sliced, which best keeps
            only where it beats the others beyond its interval.
        folds: Of the cross-validation.
        seed: Of folds and resamples.

    Raises:
        UsageError: There are fewer than two tables, or the rule or the space is unknown.
        DataError: Tables and votes do not hold the same ids, or there are too few votes.
    """
    if len(tables) < 2:
        raise UsageError(f"{len(tables)} table to blend", expected="two or more, one a judge")
    rules = (BEST, *pooling.RULES, *((SLICED,) if slices else ()))
    if rule not in rules:
        raise UsageError(f"--rule {rule!r}", expected=f"one of {', '.join(rules)}")
    evidence = Evidence.of(tables, votes)
    rows, t, w, g = evidence.opinions, evidence.targets, evidence.weights, evidence.groups
    found = pooling.fit(rows, t, w, g, space=space, folds=folds, seed=seed)
    parts = _slices(slices, evidence, votes, space, folds, seed) if slices else None
    chosen = _best(found, parts) if rule == BEST else rule
    alone = {
        name: scoring.interval(scoring.row_log_loss(p, t), g, weights=w, seed=seed)
        for name, p in zip(tables, rows, strict=True)
    }
    study = _study(found, alone, folds, seed)
    if slices and parts:
        study["rules"][SLICED] = {
            "log_loss": _list(parts.log_loss), "change": _list(parts.change),
            "against_single": _list(parts.against_single),
        }  # fmt: skip
        study["slices"] = _slice_study(slices, parts)
    return Blend(
        names=list(tables), weights=_weights(chosen, found).tolist(), space=space, rule=chosen, study=study,
        slices=_kept(slices, parts) if slices and parts and chosen == SLICED else None,
    )  # fmt: skip


def _slices(
    by: str, evidence: Evidence, votes: pl.DataFrame, space: pooling.Space, folds: int, seed: int
) -> slicing.Sliced:
    if by not in mixing.KINDS:
        raise UsageError(f"--slices {by!r}", expected=f"one of {', '.join(mixing.KINDS)}")
    codes = mixing.slice_of(by, evidence.opinions, votes.filter(pl.Series(Evidence.used(votes))))
    return slicing.fit(evidence, codes, len(mixing.KINDS[by]), space, folds, seed)


def _best(found: pooling.Fit, parts: slicing.Sliced | None) -> str:
    """Slices ask most of the votes: they are kept where they surely help beside the rule that would be kept else."""
    if parts is not None and parts.against_fitted.high < 0 and parts.change.high < 0 and found.best != "single":
        return SLICED
    return found.best


def _kept(by: str, parts: slicing.Sliced) -> Slices:
    return Slices(by=by, weights=tuple(tuple(row) for row in parts.weights.tolist()))  # type: ignore[arg-type]


def _slice_study(by: str, parts: slicing.Sliced) -> dict[str, Any]:
    named = zip(mixing.KINDS[by], parts.weights.tolist(), parts.rows.tolist(), strict=True)
    return {
        "by": by, "strength": parts.strength, "against_fitted": _list(parts.against_fitted),
        "slices": {name: {"weights": weights, "rows": rows} for name, weights, rows in named},
    }  # fmt: skip


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
    mix = blend.mix
    heard = [aligned[place] for place in mix.heard]
    opinions = np.stack([predictions.probabilities(table) for table in heard])
    cut = np.stack([table["truncated"].fill_null(value=False).to_numpy() for table in heard])
    truncated: np.ndarray = np.logical_or.reduce(cut)
    return predictions.build(like["id"], mix.pool(opinions, like), swap_gap=joint_gap(heard), truncated=truncated)


def save(blend: Blend, path: Path) -> None:
    """Write a weights file whole or not at all."""
    text = json.dumps(blend.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    storage.write_text(path, text + "\n")


def load(path: Path) -> Blend:
    """Read a weights file, or the weights of a bundle.

    Raises:
        DataError: It is none.
    """
    if path.is_dir():
        return _of_bundle(path)
    try:
        found = Blend.model_validate(json.loads(path.read_text(encoding="utf-8")))
        _ = found.mix
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(
            f"{path} holds no weights of a blend ({str(error).splitlines()[0]})", expected="a file of combine blend"
        ) from error
    if len(found.weights) != len(found.names):
        raise DataError(f"{path}: weights {found.weights} for {found.names}", expected="one a name, with sum 1")
    return found


def _of_bundle(directory: Path) -> Blend:
    from tiebreak.judges.blend import Settings

    manifest = bundle.read(directory)
    if manifest.kind != "blend":
        raise DataError(f"{directory} is a {manifest.kind} judge, not a blend", expected="a bundle of combine blend")
    settings, study = Settings.of(manifest), manifest.metrics.get(METRICS)
    return Blend(
        names=settings.names, weights=list(settings.mix.weights), space=settings.mix.space, rule=settings.rule,
        slices=settings.mix.slices, study=study if isinstance(study, dict) else {},
    )  # fmt: skip


def _weights(rule: str, found: pooling.Fit) -> np.ndarray:
    if rule in {"fitted", SLICED}:
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
            name: {
                "log_loss": _list(loss), "change": _list(found.change[name]),
                "against_single": _list(found.against_single[name]),
            }
            for name, loss in found.log_loss.items()
        },
    }  # fmt: skip


def _list(estimate: Estimate) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in dataclasses.astuple(estimate)]
