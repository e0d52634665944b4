"""tiebreak's engine. Choices: fp32 | bf16 | int8, sequences | both (both orders, the common prefix computed once)."""

from __future__ import annotations

import sys
from typing import Any

import measuring
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from tiebreak.engine import Engine, Options


def main() -> None:
    work = measuring.read_work()
    model = AutoModelForSequenceClassification.from_pretrained(work["model"], dtype=torch.bfloat16)
    engine = Engine(model, Options(precision=sys.argv[2]))
    assert not engine.fallbacks, engine.fallbacks

    def run(sequences: list[list[int]]) -> Any:
        pairs = np.arange(len(sequences)).reshape(-1, 2) if sys.argv[3] == "both" else None
        return engine.logits([np.array(row) for row in sequences], pairs=pairs).tolist()

    measuring.measure(run, work[sys.argv[3]])


if __name__ == "__main__":
    main()
