"""Packing with transformers alone. Choice: positions (restarted position ids, nothing more) | function (an attention
function of a few lines that goes from sequence to sequence)."""  # noqa: D205, D209

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import measuring
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AttentionInterface, AutoModelForSequenceClassification

BUDGET = 4096


def per_sequence(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, ends: list[int], **_: Any
) -> Any:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = [
        F.scaled_dot_product_attention(*(x[:, :, a:b] for x in (query, key, value)), is_causal=True, scale=scaling)
        for a, b in pairwise(ends)
    ]
    return torch.cat(parts, 2).transpose(1, 2), None


def main() -> None:
    work = measuring.read_work()
    by_function = sys.argv[2] == "function"
    AttentionInterface.register("per_sequence", per_sequence)
    model = AutoModelForSequenceClassification.from_pretrained(
        work["model"], dtype=torch.bfloat16, attn_implementation="per_sequence" if by_function else "sdpa"
    ).eval()

    @torch.inference_mode()
    def run(sequences: list[list[int]]) -> Iterator[Any]:
        batch: list[list[int]] = []
        for sequence in sequences:
            if batch and sum(map(len, batch)) + len(sequence) > BUDGET:
                yield from score(batch)
                batch = []
            batch.append(sequence)
        yield from score(batch)

    def score(batch: list[list[int]]) -> Any:
        ids = torch.tensor([[token for row in batch for token in row]])
        positions = torch.cat([torch.arange(len(row)) for row in batch])[None]
        ends = [0, *torch.tensor([len(row) for row in batch]).cumsum(0).tolist()]
        choice = {"ends": ends} if by_function else {}
        states = model.model(input_ids=ids, position_ids=positions, use_cache=False, **choice).last_hidden_state[0]
        return model.score(states[torch.tensor(ends[1:]) - 1]).float()

    measuring.measure(run, work["sequences"])


if __name__ == "__main__":
    main()
