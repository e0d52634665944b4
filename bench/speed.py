"""How fast the embedded judge is, on real texts, in both orders, beside a peer in the same run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from bench.machine import target, tiebreak, timed
from tiebreak import comparisons, ingest, judges

KAGGLE_ROWS = 57_477
ROWS = 20_000
SEED = 0


def resampled(data: Path, rows: int) -> pl.DataFrame:
    """Real votes, drawn with replacement, each with an id of its own."""
    votes = ingest.read(data / "kaggle_lmsys_1k.parquet")
    drawn = np.random.default_rng(SEED).integers(votes.height, size=rows)
    return votes[drawn].with_columns(id=pl.int_range(rows).cast(pl.String))


def run(data: Path) -> dict[str, Any]:
    """Comparisons a second in memory, and the whole way from a Kaggle CSV to a submission."""
    table = resampled(data, ROWS)
    judge = judges.load()
    embedded = _rate(judge.predict, table)
    both = _rate(lambda t: (judge.predict(t), judge.predict(comparisons.swap(t))), table)
    peer = _rate(_tfidf(table), table)
    whole = _kaggle(data)
    return {
        "rows": ROWS,
        "comparisons_per_second": {
            "embedded judge": embedded,
            "embedded judge, asked again with the answers swapped": both,
            "TF-IDF + logistic regression": peer,
        },
        "ratio_to_peer": round(embedded / peer, 2),
        "kaggle": whole,
        "targets": {
            "embedded judge, both orders in one call": target(embedded, 5000, "rows/s", at_least=True),
            f"{KAGGLE_ROWS:,} rows: CSV in, submission out": target(whole["seconds"], 30, "s"),
            f"{KAGGLE_ROWS:,} rows: peak memory": target(whole["peak_mib"] / 1024, 2, "GiB"),
        },
    }


def _rate(work: Callable[[pl.DataFrame], object], table: pl.DataFrame, runs: int = 3) -> float:
    """Rows a second, median of several runs after one that warms up."""
    work(table.head(1000))
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        for chunk in table.iter_slices(4096):
            work(chunk)
        seconds.append(time.perf_counter() - started)
    return round(table.height / median(seconds), 1)


def _tfidf(table: pl.DataFrame) -> Callable[[pl.DataFrame], object]:
    """The peer: what the public notebooks start from."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def texts(frame: pl.DataFrame) -> list[str]:
        joined = [pl.col(name).list.join("\n", ignore_nulls=True) for name in comparisons.TEXTS]
        return frame.select(pl.concat_str(joined, separator="\n")).to_series().to_list()

    model = make_pipeline(TfidfVectorizer(max_features=20_000), LogisticRegression(max_iter=200))
    small = table.head(1000)
    model.fit(texts(small), small["label"].cast(pl.String).to_list())
    return lambda frame: model.predict_proba(texts(frame))


def _kaggle(data: Path) -> dict[str, float]:
    table = resampled(data, KAGGLE_ROWS)
    columns = {name: [json.dumps(turns.to_list()) for turns in table[name]] for name in comparisons.TEXTS}
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "test.csv", Path(folder) / "submission.csv"
        pl.DataFrame({"id": table["id"], **columns}).write_csv(source)
        measured = timed(*tiebreak("-q", "predict", source, "--format", "kaggle", "-o", output))
        assert pl.read_csv(output).height == KAGGLE_ROWS
        return {**measured, "input_mb": round(source.stat().st_size / 1e6, 1)}
