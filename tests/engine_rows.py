"""Token sequences for the tests of the engine, and the padded answer that packing must equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

TIGHT = 1e-5


def sequences(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    """Random tokens, none of them special."""
    rng = np.random.default_rng(seed)
    return [rng.integers(6, 400, size=n) for n in lengths]


def pairs(count: int, prefix: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Pairs that begin with `prefix` common tokens, and their indices."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        common = rng.integers(6, 400, size=prefix)
        for n, first in zip(rng.integers(1, 60, size=2), (6, 7), strict=True):
            rows.append(np.concatenate([common, [first], rng.integers(6, 400, size=n)]))
    return rows, np.arange(2 * count).reshape(-1, 2)


def padded(model: Any, rows: list[np.ndarray]) -> torch.Tensor:
    """Logits (n, outputs) of the model's own forward on one batch padded to the right."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), model.config.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row)
        mask[i, : len(row)] = 1
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits


def largest(first: Any, second: Any) -> float:
    """The largest difference."""
    return float(np.abs(np.asarray(first) - np.asarray(second)).max())
