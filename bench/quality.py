"""How good the embedded judge's recipe is on votes it never saw, beside plain peers on the same votes and folds.

Held out means: rows that share a prompt or an answer pair with a test row, or nearly so, are left out of training in
every source. The shipped judge itself is scored only on a set that none of its training ever touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import polars as pl

from bench.machine import target
from tiebreak import baselines, evaluation, ingest, judges, prepare, train

TARGET = "kaggle_lmsys_1k"
OTHERS = (
    "auto_j_pairwise", "pandalm_testset", "finegrained_rlhf_qa_dev", "llmfao_crowd_majority", "llmfao_crowd_votes",
    "hh_rlhf_test",
)  # fmt: skip
REPEATS = 3
PEERS = ("uniform", "prior", "length", "tfidf")


def run(data: Path) -> dict[str, Any]:
    """Cross-validate the shipped recipe on the shipped sources; place the peers; score the shipped judge elsewhere."""
    judge = judges.load()
    votes = _sources(data, [source.name for source in judge.manifest.training])
    trained = train.train_features(votes, train.Recipe(repeats=REPEATS))
    held_out = cast("dict[str, dict[str, Any]]", trained.manifest.metrics)
    peers = baselines.ladder(ingest.read(data / f"{TARGET}.parquet"), repeats=REPEATS, only=PEERS)
    _print(held_out, peers)
    elsewhere = {name: _elsewhere(judge, votes, ingest.read(data / f"{name}.parquet"), name) for name in OTHERS}
    loss, accuracy = (held_out[TARGET][name][0] for name in ("log_loss", "accuracy"))
    best_peer = min(rung.metrics["log_loss"].value for rung in peers.rungs)
    return {
        "protocol": f"grouped 5-fold cross-validation x {REPEATS}; intervals: group bootstrap, 95 %",
        "held_out": held_out,
        "peers": peers.to_json(),
        "log_loss_ratio_to_best_peer": round(loss / best_peer, 4),
        "other_sets": elsewhere,
        "targets": {
            f"{TARGET}: held-out log-loss": target(loss, 1.022, "nats"),
            f"{TARGET}: held-out log-loss, stretch": target(loss, 1.015, "nats"),
            f"{TARGET}: held-out accuracy": target(accuracy, 0.475, "share", at_least=True),
        },
    }


def _sources(data: Path, names: list[str]) -> pl.DataFrame:
    tables = [ingest.read(data / f"{name}.parquet").with_columns(source=pl.lit(name)) for name in names]
    votes = pl.concat(tables)
    return votes.with_columns(group=prepare.groups(votes))


def _elsewhere(judge: judges.Judge, training: pl.DataFrame, votes: pl.DataFrame, name: str) -> dict[str, Any]:
    """The shipped judge as it is, and its recipe trained on these votes alone; neither has seen a test row's like."""
    unseen = prepare.overlap(training, votes).drop(votes)
    shipped = evaluation.evaluate(judge.predict(unseen), unseen)
    grouped = votes.with_columns(group=prepare.groups(votes), source=pl.lit(name))
    own = train.train_features(grouped, train.Recipe(repeats=REPEATS)).manifest.metrics[name]
    row = {
        "rows": shipped.counts.scored,
        "shipped_log_loss": str(shipped.metrics["log_loss"]),
        "shipped_log_loss_without_ties": str(shipped.metrics["decisive_log_loss"]),
        "shipped_accuracy_without_ties": str(shipped.metrics["decisive_accuracy"]),
        "prior_log_loss": str(shipped.baselines["prior"].metrics["log_loss"]),
        "own_cross_validation": own,
    }
    print(name, row, flush=True)
    return row


def _print(held_out: dict[str, dict[str, Any]], peers: baselines.Ladder) -> None:
    for name, figures in held_out.items():
        loss, accuracy = ("{:.4f} [{:.4f}, {:.4f}]".format(*figures[key]) for key in ("log_loss", "accuracy"))
        print(f"{name:26} {figures['rows']:6,}  {loss}  prior {figures['prior_log_loss']:.4f}  accuracy {accuracy}")
    for rung in peers.rungs:
        print(f"  {rung.title:24}         {rung.metrics['log_loss']}  accuracy {rung.metrics['accuracy']}")
