"""How good small fine-tuned judges are on held-out arena votes, beside the embedded judge and blended with it.

`python -m bench.llm.quality --data ../shared/data`: grouped 3-fold cross-validation on kaggle_lmsys_1k. A fold's votes,
and all that share a prompt or an answer pair with them, are in no training of any source. The number of steps is fixed
beforehand: no step is chosen on the held-out votes. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.machine import describe
from tiebreak import comparisons, ingest, predictions, prepare, scoring, train
from tiebreak.train.finetune.progress import Said, Stepped
from tiebreak.train.finetune.read import read
from tiebreak.train.finetune.run import finetune

TARGET = "kaggle_lmsys_1k"
FOLDS = 3
SHORT = ["templates.0.max_length=320", "templates.0.truncation=middle"]
RECIPES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "minilm-l6-cpu": (
        (),
        [*SHORT, "epochs=2", "batches.rows=16", "batches.tokens=4096", "precision=bf16", "optimiser.lr=1e-4"],
    ),
    "smollm2-135m-lora": (
        (),
        ["templates.0.name=plain", "templates.0.chat=false", *SHORT, "lora.layers=[20,29]", "batches.tokens=2048"],
    ),
}
"""Of each recipe the supporting sources, always trained on, and what the CPU budget changes in it."""

LAST_STEP_ONLY = "evaluation.every=1000000"


def votes(data: Path, support: tuple[str, ...]) -> pl.DataFrame:
    """The target with its folds, then the supporting sources without what resembles a target row."""
    target = ingest.read(data / f"{TARGET}.parquet").with_columns(source=pl.lit(TARGET))
    target = target.with_columns(group=prepare.groups(target))
    target = target.with_columns(fold=prepare.folds(target, FOLDS, seed=0))
    parts = [target]
    for name in support:
        table = ingest.read(data / f"{name}.parquet").with_columns(source=pl.lit(name))
        parts.append(prepare.overlap(target, table).drop(table))
    return pl.concat(parts)


def embedded(data: Path) -> np.ndarray:
    """Out-of-fold probabilities of the embedded judge's recipe, on the same folds."""
    table = votes(data, ("fastchat_arena_100", "llmeval2"))
    found = np.zeros((table["fold"].drop_nulls().len(), 3))
    for fold in range(FOLDS):
        held = (table["fold"] == fold).fill_null(False)
        judge = train.train_features(table.filter(~held), train.Recipe(folds=2))
        found[held.arg_true().to_numpy()] = predictions.probabilities(judge.predict(table.filter(held)))
    return found


def finetuned(name: str, data: Path, work: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Out-of-fold probabilities of a recipe, and what it cost."""
    support, overrides = RECIPES[name]
    table = votes(data, support)
    recipe = read(name, [*overrides, f"folds={FOLDS}", LAST_STEP_ONLY])
    started = time.perf_counter()
    outcome = finetune(recipe, table, None, work / name, report=_say)
    rows = table["fold"].drop_nulls().len()
    assert outcome.oof is not None
    aligned = predictions.align(outcome.oof, table.head(rows))
    cost = {"seconds_of_this_call": round(time.perf_counter() - started), "training_rows": table.height - rows // FOLDS,
            "support": list(support), "overrides": overrides, "warnings": outcome.warnings}  # fmt: skip
    return predictions.probabilities(aligned), cost


def _say(event: Any) -> None:
    if isinstance(event, Said) or (isinstance(event, Stepped) and event.step % 10 == 0):
        print(event, flush=True)


def blend(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Weighted mean of log-probabilities."""
    return predictions.softmax((1 - share) * np.log(first) + share * np.log(second))


def nested(
    first: np.ndarray, second: np.ndarray, targets: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, list[float]]:
    """The blend with the share chosen, for each fold, on the rows of the other folds."""
    shares = np.linspace(0, 1, 21)
    losses = np.stack([scoring.row_log_loss(blend(first, second, share), targets) for share in shares])
    result, chosen = np.empty_like(first), []
    for number in range(FOLDS):
        share = float(shares[losses[:, fold != number].mean(axis=1).argmin()])
        chosen.append(round(share, 2))
        result[fold == number] = blend(first, second, share)[fold == number]
    return result, chosen


def figures(found: np.ndarray, targets: np.ndarray, group: np.ndarray, beside: np.ndarray) -> dict[str, Any]:
    """Log-loss and accuracy with intervals, and the paired difference of log-loss from the embedded judge."""
    loss, other = (scoring.row_log_loss(p, targets) for p in (found, beside))
    return {
        "log_loss": str(scoring.interval(loss, group)),
        "accuracy": str(scoring.interval(scoring.row_hits(found, targets), group)),
        "log_loss_minus_embedded": str(scoring.interval(loss - other, group)),
    }


def run(data: Path, work: Path, names: list[str]) -> dict[str, Any]:
    """Train, score and blend; prints a line for each figure."""
    target = votes(data, ())
    targets, group = comparisons.targets(target), target["group"].to_numpy()
    fold = target["fold"].to_numpy()
    base = embedded(data)
    rows: dict[str, Any] = {"embedded": figures(base, targets, group, base)}
    for name in names:
        found, cost = finetuned(name, data, work)
        mixed, shares = nested(base, found, targets, fold)
        rows[name] = figures(found, targets, group, base) | {"cost": cost}
        rows[f"embedded + {name}"] = figures(mixed, targets, group, base) | {"share_of_the_second": shares}
        np.save(work / f"{name}.npy", found)
    for name, row in rows.items():
        print(f"{name:32} {row['log_loss']}  accuracy {row['accuracy']}  {row['log_loss_minus_embedded']}")
    return {
        "protocol": f"grouped {FOLDS}-fold cross-validation, steps fixed beforehand; group bootstrap, 95 %",
        "rows": rows,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("out/bench-llm-quality"))
    parser.add_argument("--only", nargs="*", default=list(RECIPES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "llm_quality.json")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    result = run(arguments.data, arguments.work, arguments.only)
    arguments.out.write_text(json.dumps(describe() | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
