"""Rows in, logits out: micro-batches without padding, packed one ahead of the computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiebreak.engine.batches import microbatches
from tiebreak.engine.options import Options
from tiebreak.engine.packed import Packed, Ragged, pack
from tiebreak.engine.pooled import Pooled


class Engine:
    """Scores token sequences with a sequence classifier.

    Args:
        model: A sequence classifier of transformers, `peft`-wrapped or not, or a `Pooled`. The engine takes it over:
            moves it to the device, changes its precision, puts it in evaluation mode.
        options: How to run.
    """

    def __init__(self, model: Any, options: Options | None = None) -> None:
        self.options = options or Options()
        self.pooled = (model if isinstance(model, Pooled) else Pooled.split(model)).eval()
        self.report: dict[str, Any] = {}

    def logits(
        self, sequences: Ragged, *, pairs: np.ndarray | None = None, advance: Callable[[int], None] = lambda n: None
    ) -> np.ndarray:
        """Logits of each sequence.

        Args:
            sequences: Token ids.
            pairs: (m, 2) indices of sequences that may begin alike; the common prefix of two is computed once.
            advance: Called with the number of sequences just finished.

        Returns:
            float32 (n, outputs), in the order of the sequences.
        """
        return self._run(sequences, self.pooled.forward, advance)

    def embeddings(self, sequences: Ragged, *, advance: Callable[[int], None] = lambda n: None) -> np.ndarray:
        """Pooled states before the head, float32 (n, hidden), in the order of the sequences."""
        return self._run(sequences, self.pooled.embed, advance)

    def _run(
        self, sequences: Ragged, compute: Callable[[Packed], Tensor], advance: Callable[[int], None]
    ) -> np.ndarray:
        started = time.perf_counter()
        lengths = np.array([len(sequences[i]) for i in range(len(sequences))])
        out: np.ndarray | None = None
        with torch.inference_mode():
            for batch in microbatches(lengths, self.options.max_tokens or 4096, window=self.options.window):
                rows = compute(pack([sequences[int(i)] for i in batch])).float().numpy()
                if out is None:
                    out = np.empty((len(sequences), rows.shape[1]), dtype=np.float32)
                out[batch] = rows
                advance(len(batch))
        self.report = {"tokens": int(lengths.sum()), "seconds": time.perf_counter() - started}
        assert out is not None  # noqa: S101
        return out
