"""What would be an error without words on a GPU, or no error at all, said before and after the computation."""

from __future__ import annotations

import numpy as np

from tiebreak.engine.packed import Ragged
from tiebreak.engine.pooled import Pooled
from tiebreak.errors import UsageError


def check_sequences(sequences: Ragged, pooled: Pooled) -> None:
    """Every token must be the model's and have a position.

    Raises:
        UsageError: A sequence is empty or too long, or a token is outside the vocabulary.
    """
    vocabulary, furthest = pooled.vocabulary, pooled.max_positions
    for i in range(len(sequences)):
        row = np.asarray(sequences[i])
        if not len(row):
            raise UsageError(f"sequence {i} has no tokens", expected="at least one token a sequence")
        low, high = int(row.min()), int(row.max())
        if low < 0 or high >= vocabulary:
            raise UsageError(
                f"sequence {i} has token {high if high >= vocabulary else low}",
                expected=f"tokens 0 .. {vocabulary - 1}: the tokenizer is not this model's",
            )
        if furthest is not None and len(row) > furthest:
            raise UsageError(
                f"sequence {i} has {len(row)} tokens", expected=f"at most {furthest}, the positions of this model",
                mend=f"--max-length {furthest}",
            )  # fmt: skip


def check_finite(rows: np.ndarray, precision: str) -> None:
    """Every number must be one.

    Args:
        rows: (n, width).
        precision: What they were computed in, for the message.

    Raises:
        UsageError: Some are infinite or no numbers: fp16 ends at 65,504, which states of Gemma pass.
    """
    wrong = ~np.isfinite(rows).all(axis=1)
    if wrong.any():
        raise UsageError(
            f"{wrong.sum()} of {len(rows)} sequences have logits that are not finite in {precision}"
            f" (the first is sequence {int(np.argmax(wrong))})",
            expected="finite logits",
            mend="--precision bf16 or fp32",
        )
