"""transformers as its documentation shows it: batches padded to their longest row. Choice: arrival | sorted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import measuring
import torch
from transformers import AutoModelForSequenceClassification

BATCH = 8


def main() -> None:
    work = measuring.read_work()
    model = AutoModelForSequenceClassification.from_pretrained(work["model"], dtype=torch.bfloat16).eval()
    pad = model.config.pad_token_id

    @torch.inference_mode()
    def run(sequences: list[list[int]]) -> Iterator[Any]:
        order = list(range(len(sequences)))
        if sys.argv[2] == "sorted":
            order.sort(key=lambda i: -len(sequences[i]))
        rows: dict[int, Any] = {}
        for start in range(0, len(order), BATCH):
            batch = [sequences[i] for i in order[start : start + BATCH]]
            longest = max(map(len, batch))
            ids = torch.tensor([row + [pad] * (longest - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
            logits = model(input_ids=ids, attention_mask=mask).logits.float()
            rows |= dict(zip(order[start : start + BATCH], logits, strict=True))
        return iter([rows[i] for i in range(len(sequences))])

    measuring.measure(run, work["sequences"])


if __name__ == "__main__":
    main()
