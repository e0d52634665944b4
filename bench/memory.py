"""Two million rows through the import, in bounded memory."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from bench.machine import target, tiebreak, timed
from bench.speed import resampled
from tiebreak import comparisons

ROWS = 2_000_000
BLOCK = 4_000


def run(data: Path) -> dict[str, Any]:
    """A Kaggle CSV of real votes, resampled, and what its import takes."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "train.csv", Path(folder) / "votes.parquet"
        _write(data, source)
        measured = timed(*tiebreak("-q", "data", "import", source, "-o", output))
        rows = pl.scan_parquet(output).select(pl.len()).collect().item()
        size = source.stat().st_size
    assert rows == ROWS
    return {
        "rows": ROWS,
        "input_gb": round(size / 1e9, 2),
        "import": measured,
        "rows_per_second": round(ROWS / measured["seconds"]),
        "targets": {f"{ROWS:,} rows import: peak memory": target(measured["peak_mib"] / 1024, 2, "GiB")},
    }


def _write(data: Path, path: Path) -> None:
    block = resampled(data, BLOCK)
    winners = [(pl.col("label") == label).cast(pl.Int8) for label in comparisons.LABELS]
    frame = pl.DataFrame(
        {
            "id": block["id"],
            **{name: [json.dumps(turns.to_list()) for turns in block[name]] for name in comparisons.TEXTS},
            **dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), block.select(
                expression.alias(str(i)) for i, expression in enumerate(winners)
            ), strict=True)),
        }
    )  # fmt: skip
    with path.open("wb") as stream:
        for start in range(0, ROWS, BLOCK):
            ids = pl.int_range(start, start + BLOCK, eager=True).cast(pl.String).alias("id")
            frame.with_columns(ids).write_csv(stream, include_header=start == 0)
