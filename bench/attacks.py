"""How often judges fall for tricks: the table of docs/attack.md.

    python -m bench.attacks --data ../shared/data --judge embedded --limit 157
    python -m bench.attacks --data ../shared/data --judge "embedded, any length" --characters 1000000 --limit 300
    python -m bench.attacks --data ../shared/data --judge fine-tuned=JUDGE --limit 100
    python -m bench.attacks --data ../shared/data --judge generative=JUDGE --limit 80 --variants 1
    python -m bench.attacks --table docs/attack.md

The votes are the first of `auto_j_pairwise` whose texts come to fewer than 600 characters (`--characters`): no judge
here was trained on that set, and short texts are read whole, so that what stands at the end of an answer reaches the
judge; but whatever makes a short answer longer makes it much longer. Each judge adds to `bench/results/attacks.json`; a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

from bench.machine import describe
from tiebreak import attack, bundle, ingest, judges, storage
from tiebreak.attack import measuring, summary
from tiebreak.predict import Progress, scale

VOTES = "auto_j_pairwise"
CHARACTERS = 600
RESULTS = Path(__file__).parent / "results" / "attacks.json"
WORK = Path(__file__).parent / "out"
BEGIN, END = "<!-- the table of bench/attacks.py -->", "<!-- end of the table -->"


def main() -> int:
    """Attack one judge, or write the table of all that were attacked."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the shared vote sets")
    parser.add_argument("--judge", help="NAME=DIRECTORY, or a NAME for the embedded judge")
    parser.add_argument("--limit", type=int, default=200, help="votes")
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="texts of a vote stay below this length")
    parser.add_argument("--variants", type=int, help="tricks of each family")
    parser.add_argument("--table", type=Path, help="page to write the table into")
    options = parser.parse_args()
    if options.judge:
        _attack(options)
    if options.table:
        _write_table(options.table)
    return 0


def votes(data: Path, limit: int, characters: int) -> pl.DataFrame:
    """The votes of the benchmark."""
    table = ingest.read(data / f"{VOTES}.parquet")
    texts = pl.col("prompt", "response_a", "response_b").list.join("", ignore_nulls=True).str.len_chars()
    return table.filter(pl.sum_horizontal(texts) < characters).head(limit)


def _attack(options: argparse.Namespace) -> None:
    name, _, directory = options.judge.partition("=")
    folder = Path(directory) if directory else None
    families = attack.choose(variants=options.variants)
    table = votes(options.data, options.limit, options.characters)
    manifest = bundle.read(folder or judges.EMBEDDED)
    rows = scale.chunk_rows(manifest, "auto")
    WORK.mkdir(exist_ok=True)
    work = attack.Work.begin(
        WORK / f"attacks-{name.replace(' ', '-')}",
        attack.identity(table, manifest, families, {}, rows),
        resume=True,
        chunk_rows=rows,
    )
    started = time.perf_counter()
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        sys.stderr.write(f"{done:,} comparisons, {time.perf_counter() - started:,.0f} s\n")

    found = attack.attack(attack.Subject.load(folder, judges.Runtime()), table, families, work, Progress(tell))
    measured = attack.measure(found)
    document = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"judges": {}}
    document["judges"][name] = {
        "kind": manifest.kind, "bundle": manifest.name, "votes": table.height, "set": VOTES,
        "characters_below": options.characters, "variants": options.variants, "settings": _settings(manifest),
        "seconds": round(time.perf_counter() - started, 1), "families": measuring.document(measured),
        "sentences": summary.sentences(measured), **describe(),
    }  # fmt: skip
    storage.write_text(RESULTS, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    work.discard()
    print("\n".join(summary.sentences(measured)))


def _settings(manifest: bundle.Manifest) -> dict[str, Any]:
    template = manifest.settings.get("template")
    shape = {key: template[key] for key in ("name", "max_length")} if isinstance(template, dict) else {}
    return {"template": shape, "trained_on": [source.name for source in manifest.training]}


def _write_table(page: Path) -> None:
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    storage.write_text(page, f"{before}{BEGIN}\n{table(document)}\n{END}{after}")


def table(document: dict[str, Any]) -> str:
    """Won and probability gained, by family, of each judge and way of reading."""
    columns = [
        (name, reader, found)
        for name, found in sorted(document["judges"].items())
        for reader in ("own", "both", "one") if reader in found["families"][0]["overall"]
    ]  # fmt: skip
    said = {"own": "", "both": ", both orders", "one": ", one order"}
    lines = [
        "| votes won, % | " + " | ".join(f"{name}{said[reader]}" for name, reader, _ in columns) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for place, family in enumerate(document["judges"]["embedded"]["families"]):
        cells = [_cell(found["families"][place]["overall"][reader]) for _, reader, found in columns]
        lines.append(f"| {family['name']} | " + " | ".join(cells) + " |")
    counts = [f"{found['votes']}, {_tricks(found)}" for _, _, found in columns]
    lines.append("| votes and tricks | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def _tricks(found: dict[str, Any]) -> int:
    return len({(family["name"], trick["trick"]) for family in found["families"] for trick in family["tricks"]})


def _cell(figures: dict[str, Any]) -> str:
    value, low, high = figures["won"]
    if value is None:
        return "-"
    beyond = figures["beyond_control"]
    shown = f"{100 * value:.0f} [{100 * low:.0f}, {100 * high:.0f}]" if low is not None else f"{100 * value:.0f}"
    return f"**{shown}**" if beyond and beyond[1] is not None and beyond[1] > 0 else shown


if __name__ == "__main__":
    sys.exit(main())
