"""Two fine-tuned LLMs blended and in a cascade on 14,370 arena votes; and behind the embedded judge's recipe.

The predictions of the two LLMs come without texts, but 248 of their ids are among the 1,000 votes that have them. The
shipped embedded judge was trained on those, so it is its recipe that speaks there: ten times fitted without a tenth of
the groups, each row judged by the fit that has not seen it or anything like it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.machine import target
from bench.quality import _sources as sources
from tiebreak import calibrate, judges, train
from tiebreak.combine import blend, cascade
from tiebreak.combine.cascade_study import Goal
from tiebreak.ingest import judged

FILE = "kaggle_lmsys_llm_predictions.parquet"
TEXTS = "kaggle_lmsys_1k"
FOLDS = 10
LLM_COST, EMBEDDED_COST = 1.0, 0.001
"""Of a row, in forwards of one of the two LLMs, which take some seconds; the embedded judge takes a millisecond."""


def run(data: Path) -> dict[str, Any]:
    """Blend, cascades of the two, and cascades behind the embedded judge's recipe."""
    frame = judged.read_file(data / FILE)
    votes = judged.label_table(frame, where=FILE)
    tables = {
        model: judged.prediction_table(frame, [f"{model}_{c}" for c in ("a", "b", "tie")], where=FILE)[0]
        for model in ("m1", "m2")
    }
    figures: dict[str, Any] = {
        "blend": {space: _blend(tables, votes, space) for space in ("probabilities", "logits")},
        "two_judges": _two(tables, votes),
        "behind_the_embedded_recipe": _behind(tables, votes, data),
    }
    logits = figures["blend"]["logits"]["rules"]
    best = figures["behind_the_embedded_recipe"]["embedded recipe, m2, m1: budget 0.6"]
    figures["targets"] = {
        "blend minus the better one: log-loss, upper bound": target(logits["fitted"]["against_single"][2], 0.0, "nats"),
        "embedded, m2, m1 at 60 % of the cost: gain kept": target(
            round(best["chosen"]["kept"][0] or float("nan"), 3), 0.99, "share", at_least=True
        ),
    }
    return figures


def _blend(tables: dict[str, pl.DataFrame], votes: pl.DataFrame, space: Any) -> dict[str, Any]:
    found = blend.fit(tables, votes, space=space, slices="agreement")
    study: dict[str, Any] = found.study
    fitted = [one["fitted"] for one in study["tables"].values()]
    print(f"\nblend, mean of {space}: kept {found.rule}, fitted weights {_round(fitted)}")
    for rule, row in study["rules"].items():
        print(f"  {rule:9} {_round(row['log_loss'])}  against the better one {_round(row['against_single'])}")
    return study


def _two(tables: dict[str, pl.DataFrame], votes: pl.DataFrame) -> dict[str, Any]:
    """Cascades of the two LLMs, in both orders, by what the dearer one costs; m2 also calibrated before."""
    honest = dict(tables)
    honest["m2"] = _calibrated(tables["m2"], votes)
    figures = {}
    for name, said, order, costs in (
        ("m1 then m2, 1 : 4", tables, ("m1", "m2"), (1, 4)),
        ("m2 then m1, 1 : 4", tables, ("m2", "m1"), (1, 4)),
        ("m1 then m2, 1 : 20", tables, ("m1", "m2"), (1, 20)),
        ("m1 then calibrated m2, 1 : 4", honest, ("m1", "m2"), (1, 4)),
    ):
        figures[name] = _cascade(
            name, {one: said[one] for one in order}, votes, dict(zip(order, costs, strict=True)), Goal(budget=0.6)
        )
    return figures


def _calibrated(table: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    """Out of fold: each fifth of the rows by a map that was fitted on the others."""
    rows = calibrate.join(table, votes)
    fold = np.arange(len(rows.targets)) % 5
    done = np.empty_like(rows.probabilities)
    for number in range(5):
        held_out = fold == number
        found = calibrate.fit(rows.probabilities[~held_out], rows.targets[~held_out], method="symmetric")
        done[held_out] = found.apply(rows.probabilities[held_out])
    p = dict(zip(("p_a", "p_b", "p_tie"), done.T, strict=True))
    return pl.DataFrame({"id": votes["id"], **p})


def _behind(tables: dict[str, pl.DataFrame], votes: pl.DataFrame, data: Path) -> dict[str, Any]:
    embedded = _recipe(data)
    both = votes.filter(pl.col("id").is_in(embedded["id"].implode()))
    said = {"embedded recipe": embedded} | tables
    said = {name: table.filter(pl.col("id").is_in(both["id"].implode())) for name, table in said.items()}
    costs = dict(zip(said, (EMBEDDED_COST, LLM_COST, LLM_COST), strict=True))
    figures = {
        str(f"{word} {share:g}"): _cascade(
            f"embedded, m1, m2: {word} {share:g}", said, both, costs, Goal(**{word: share})
        )
        for word, share in (("budget", 0.6), ("keep", 0.99))
    }
    for names in (("embedded recipe", "m2", "m1"), ("embedded recipe", "m2")):
        title = f"{', '.join(names)}: budget 0.6"
        figures[title] = _cascade(
            title, {name: said[name] for name in names}, both, {name: costs[name] for name in names}, Goal(budget=0.6)
        )
    return figures


def _recipe(data: Path) -> pl.DataFrame:
    """What the recipe of the embedded judge says of the votes with texts, each row held out with all its like."""
    table = sources(data, [source.name for source in judges.load().manifest.training])
    names, codes = np.unique(table["group"].to_numpy(), return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[codes]
    table = table.with_columns(fold=pl.Series(fold))
    found = []
    for number in range(FOLDS):
        judge = train.train_features(table, train.Recipe(fold=number, folds=2))
        found.append(judge.predict(table.filter((pl.col("fold") == number) & (pl.col("source") == TEXTS))))
    return pl.concat(found)


def _cascade(
    title: str, tables: dict[str, pl.DataFrame], votes: pl.DataFrame, costs: dict[str, float], goal: Goal
) -> dict[str, Any]:
    found = cascade.fit(tables, votes, costs, goal, space="logits")
    study: dict[str, Any] = found.study
    chosen = study["chosen"]
    print(f"\n{title}: {study['rows']:,} votes, route {study['route']}, last asked {_round(chosen['answered'])}")
    for name, loss in zip(found.names, study["judges"], strict=True):
        print(f"  {name:16} {_round(loss)}")
    every = study["everybody"]
    print(f"  everybody        {_round(every['log_loss'])}  gain {_round(every['against_first'])}")
    print(f"  cascade          {_round(chosen['log_loss'])}  cost {_round(chosen['cost'])}")
    print(f"  kept             {_round(chosen['kept'])}")
    for by, points in study["curves"].items():
        shown = [f"{p['cost'][0]:.2f}:{'-' if p['kept'][0] is None else format(p['kept'][0], '.2f')}" for p in points]
        print(f"  {by:8} {' '.join(shown)}", flush=True)
    study["needed_for_99"] = {by: _needed(points) for by, points in study["curves"].items()}
    return study


def _needed(points: list[dict[str, Any]]) -> float | None:
    """The cheapest point of a curve with 99 % of the gain."""
    return next((round(p["cost"][0], 3) for p in points if (p["kept"][0] or 0) >= 0.99), None)


def _round(values: list[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]
