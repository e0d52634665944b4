"""Votes, recipes and models that the tests of fine-tuning share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import tiny
from tiebreak import comparisons
from tiebreak.train.finetune.recipe import Recipe


def votes(count: int = 60, *, seed: int = 0, noise: float = 0.2) -> pl.DataFrame:
    """Votes with something to learn: the answer with more of the word "better" wins, none of it is a tie."""
    rng = np.random.default_rng(seed)
    words = ["quick", "brown", "fox", "asks", "which", "answer", "two"]
    rows = []
    for i in range(count):
        kind = int(rng.integers(3))
        good = [["better"] * 3, []][:: 1 if kind == 0 else -1] if kind < 2 else [[], []]
        texts = []
        for side in good:
            chosen = side + list(rng.choice(words, int(rng.integers(2, 25))))
            rng.shuffle(chosen)
            texts.append(" ".join(chosen))
        label = int(rng.integers(3)) if rng.random() < noise else kind
        rows.append({
            "id": str(i), "prompt": [f"question {i // 2} " + " ".join(rng.choice(words, 3))], "response_a": [texts[0]],
            "response_b": [texts[1]], "label": comparisons.LABELS[label], "group": f"g{i // 2}",
            "weight": float(rng.integers(1, 4)), "source": "made",
        })  # fmt: skip
    return comparisons.validate(pl.DataFrame(rows))


def recipe(base: Path, **changes: Any) -> Recipe:
    """A small LoRA recipe; keys with dots reach into its parts."""
    document: dict[str, Any] = {
        "name": "tiny", "base": {"name": str(base)}, "templates": [{"name": "plain", "max_length": 96}],
        "lora": {"r": 4, "alpha": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}, "precision": "fp32",
        "batches": {"rows": 8, "tokens": 400}, "optimiser": {"lr": 3e-3, "head_lr": 1e-2, "warmup": 2},
        "evaluation": {"every": 4}, "epochs": 2, "seed": 3,
    }  # fmt: skip
    for key, value in changes.items():
        *path, last = key.split("__")
        place = document
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return Recipe.model_validate(document)


def base(directory: Path, family: str = "llama", **changes: Any) -> Path:
    """A base on disk."""
    return tiny.save(directory / family, family, **changes)
