"""Layers over several processes: hidden states sent from rank to rank."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny
from engine_rows import TIGHT, largest, pairs
from tiebreak.engine import Engine, Options
from tiebreak.errors import UsageError

FAMILIES = ("llama", "gemma3_text")

RANK = """
import sys
import numpy as np
import torch.distributed as dist
import tiny
from engine_rows import pairs
from tiebreak.engine import Engine, Options

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
for family in sys.argv[4:]:
    rows, index = pairs(8, 40)
    run = Engine(tiny.model(family), Options(precision="fp32", devices="ranks", max_tokens=300))
    np.save(f"{folder}/{family}-{rank}.npy", run.logits(rows, pairs=index))
    own = [type(layer).__name__ for layer in run.pooled.backbone.layers].count("Elsewhere")
    print(family, rank, run.report["stages"], own, run.report["micro_batches"])
dist.destroy_process_group()
"""


def start(folder: Path, world: int, *families: str) -> list[str]:
    """Run `world` processes to their ends; what each printed."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
                   "PYTHONPATH": str(Path(__file__).parent)}  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(folder), str(rank), str(world), *families],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    outs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * world, "\n".join(err for _, err in outs)
    return [out for out, _ in outs]


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    said = start(tmp_path, 2, *FAMILIES)
    rows, index = pairs(8, 40)
    for family in FAMILIES:
        expected = Engine(tiny.model(family), Options(precision="fp32", max_tokens=300)).logits(rows, pairs=index)
        first, second = (np.load(tmp_path / f"{family}-{rank}.npy") for rank in range(2))
        assert np.array_equal(first, second), "every rank has all rows"
        assert largest(first, expected) <= TIGHT
    assert said[0].splitlines()[0] == "llama 0 [0, 1, 3] 2 " + said[0].split()[-1]


@pytest.mark.slow
def test_three_processes_give_what_one_gives(tmp_path: Path) -> None:
    start(tmp_path, 3, "llama")
    rows, index = pairs(8, 40)
    expected = Engine(tiny.model("llama"), Options(precision="fp32", max_tokens=300)).logits(rows, pairs=index)
    assert all(largest(np.load(tmp_path / f"llama-{rank}.npy"), expected) <= TIGHT for rank in range(3))


def test_ranks_without_torchrun_are_refused() -> None:
    with pytest.raises(UsageError, match="torchrun"):
        Engine(tiny.model("llama"), Options(devices="ranks"))
