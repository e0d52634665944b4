"""Retrieval judges for tests: a tiny encoder with random weights, and votes whose preference can be found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import tiny
from tiebreak import comparisons
from tiebreak.judges.base import Base
from tiebreak.judges.retrieval.encoder import Encoder
from tiebreak.judges.retrieval.kernel import Kernel
from tiebreak.judges.retrieval.memory import Memory
from tiebreak.judges.retrieval.votes import Votes
from tiebreak.judges.runtime import Runtime

FP32 = Runtime(precision="fp32", devices="cpu")
KERNEL = Kernel(neighbours=24, mix=0.5, bandwidth=0.2, shrinkage=0.5)

TOPICS = ("tides", "bread", "chess", "glass", "bees", "rivers", "moss", "clocks")
GOOD, BAD = "clear steps with numbers and a reason", "sorry, no idea about this one"


def encoder(folder: Path) -> Encoder:
    """A BERT of three tiny layers."""
    if not folder.exists():
        tiny.save(folder, "bert")
    return Encoder(Base(name=str(folder)), runtime=FP32)


def votes(count: int, *, seed: int = 0, side: float = 0.9, first: int = 0) -> pl.DataFrame:
    """Votes that prefer one kind of answer, whichever side it stands on; no two rows have equal texts."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(first, first + count):
        topic = TOPICS[int(rng.integers(len(TOPICS)))]
        good = f"{GOOD} on {topic} number {number}"
        bad = f"{BAD} {topic} {number}"
        a_is_good = bool(rng.random() < 0.5)
        label = "tie" if rng.random() < 0.2 else ("a" if a_is_good == (rng.random() < side) else "b")
        rows.append({
            "id": str(number), "prompt": [f"tell me about {topic} {number}"], "label": label,
            "response_a": [good if a_is_good else bad], "response_b": [bad if a_is_good else good],
            "group": f"group {number}",
        })  # fmt: skip
    schema: dict[str, Any] = {name: comparisons.TURNS for name in comparisons.TEXTS}
    return comparisons.validate(pl.DataFrame(rows, schema_overrides=schema))


def remembered(count: int, *, width: int = 16, seed: int = 0) -> Votes:
    """Votes without texts: vectors in clusters, labels that follow the first component of the difference."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, width))

    def vectors() -> np.ndarray:
        drawn = centres[rng.integers(len(centres), size=count)] + 0.5 * rng.normal(size=(count, width))
        unit: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit

    prompt, difference = vectors(), vectors() - vectors()
    codes = np.where(rng.random(count) < 0.25, 2, (difference[:, 0] < 0).astype(int))
    return Votes(
        prompt.astype(np.float16), difference.astype(np.float16), np.eye(3, dtype=np.float32)[codes],
        np.arange(1, count + 1, dtype=np.uint64), np.arange(1, count + 1, dtype=np.uint64),
    )  # fmt: skip


def memory(count: int, kind: str, *, seed: int = 0, kernel: Kernel = KERNEL) -> Memory:
    return Memory.build(remembered(count, seed=seed), kernel, kind=kind)
