"""pairjudge's judge, which computes in FP32 on a CPU, on the same token ids; longest rows first, as it does."""

from __future__ import annotations

from typing import Any

import measuring
import numpy as np
import pandas as pd
import torch
from pairjudge.judge import PairwiseJudge
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main() -> None:
    work = measuring.read_work()
    model = AutoModelForSequenceClassification.from_pretrained(work["model"], dtype=torch.float32)
    judge = PairwiseJudge(model, AutoTokenizer.from_pretrained(work["model"]))

    def run(sequences: list[list[int]]) -> Any:
        frame = pd.DataFrame(
            {
                "_order": np.arange(len(sequences)),
                "input_ids": sequences,
                "attention_mask": [[1] * len(row) for row in sequences],
                "length": [len(row) for row in sequences],
            }
        )
        return judge._forward(frame, 4).tolist()

    measuring.measure(run, work["sequences"])


if __name__ == "__main__":
    main()
