"""How good small fine-tuned judges are on held-out arena votes, beside the embedded judge and blended with it.

`python -m bench.llm.quality --data ../shared/data`: grouped 3-fold cross-validation on kaggle_lmsys_1k. A fold's votes,
and all that share a prompt or an answer pair with them, are in no training of any source. The number of steps is fixed
beforehand: no step is chosen on the held-out votes. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
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
        [
            "templates.0.name=plain",
            "templates.0.chat=false",
            "templates.0.max_length=128",
            "templates.0.truncation=middle",
            "lora.layers=[20,29]",
            "batches.rows=8",
            "batches.tokens=2048",
            "max_steps=40",
        ],
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


def finetuned(name: str, data: Path, work: Path, *, train_now: bool) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Out-of-fold predictions of a recipe, with the column `fold`, and what they cost."""
    support, overrides = RECIPES[name]
    if train_now:
        recipe = read(name, [*overrides, f"folds={FOLDS}", LAST_STEP_ONLY])
        finetune(recipe, votes(data, support), None, work / name, report=_say)
    done = sorted((work / f"{name}.run").glob("fold-*/validation.parquet"))
    folds = [int(path.parent.name.removeprefix("fold-")) for path in done]
    found = pl.concat([pl.read_parquet(path).with_columns(fold=pl.lit(k)) for k, path in zip(folds, done, strict=True)])
    return found, {"folds": folds, "of": FOLDS, "support": list(support), "overrides": overrides}


def _say(event: Any) -> None:
    if isinstance(event, Said) or (isinstance(event, Stepped) and event.step % 10 == 0):
        print(event, flush=True)


def blend(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Weighted mean of log-probabilities."""
    return predictions.softmax((1 - share) * np.log(first) + share * np.log(second))


def nested(
    first: np.ndarray, second: np.ndarray, targets: np.ndarray, part: np.ndarray
) -> tuple[np.ndarray, list[float]]:
    """The blend with the share chosen, for each part of the rows, on the other parts."""
    shares = np.linspace(0, 1, 21)
    losses = np.stack([scoring.row_log_loss(blend(first, second, share), targets) for share in shares])
    result, chosen = np.empty_like(first), []
    for number in np.unique(part):
        share = float(shares[losses[:, part != number].mean(axis=1).argmin()])
        chosen.append(round(share, 2))
        result[part == number] = blend(first, second, share)[part == number]
    return result, chosen


def figures(found: np.ndarray, targets: np.ndarray, group: np.ndarray, beside: np.ndarray) -> dict[str, Any]:
    """Log-loss and accuracy with intervals, and the paired difference of log-loss from the embedded judge."""
    loss, other = (scoring.row_log_loss(p, targets) for p in (found, beside))
    return {
        "log_loss": str(scoring.interval(loss, group)),
        "accuracy": str(scoring.interval(scoring.row_hits(found, targets), group)),
        "log_loss_minus_embedded": str(scoring.interval(loss - other, group)),
    }


def run(data: Path, work: Path, names: list[str], *, train_now: bool) -> dict[str, Any]:
    """Train, score and blend; prints a line for each figure."""
    target = votes(data, ())
    base = embedded(data)
    result: dict[str, Any] = {}
    for name in names:
        found, cost = finetuned(name, data, work, train_now=train_now)
        at = target["fold"].is_in(cost["folds"])
        rows, own = target.filter(at), base[at.to_numpy()]
        p = predictions.probabilities(predictions.align(found, rows))
        targets, group = comparisons.targets(rows), rows["group"].to_numpy()
        parts = np.unique(group, return_inverse=True)[1] % 5
        mixed, shares = nested(own, p, targets, parts)
        prior = np.broadcast_to(targets.mean(axis=0), targets.shape)
        judges = {"prior": prior, "embedded": own, name: p, f"embedded + {name}": mixed}
        result[name] = cost | {
            "rows": rows.height,
            "share_in_the_blend": shares,
            "judges": {who: figures(probabilities, targets, group, own) for who, probabilities in judges.items()},
        }
        for who, row in result[name]["judges"].items():
            print(f"{who:32} {row['log_loss']}  accuracy {row['accuracy']}  {row['log_loss_minus_embedded']}")
    return {
        "protocol": f"grouped {FOLDS}-fold cross-validation, steps fixed beforehand; group bootstrap, 95 %; blend: "
        "mean of log-probabilities, share chosen on other groups",
        "recipes": result,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("out/bench-llm-quality"))
    parser.add_argument("--only", nargs="*", default=list(RECIPES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "llm_quality.json")
    parser.add_argument("--finished", action="store_true", help="train nothing, report the folds that are there")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    result = run(arguments.data, arguments.work, arguments.only, train_now=not arguments.finished)
    arguments.out.write_text(json.dumps(describe() | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
