"""sentence-transformers' CrossEncoder in bf16 on the same rows as texts; its own tokenisation is part of its time."""

from __future__ import annotations

from typing import Any

import measuring
import torch
from sentence_transformers import CrossEncoder


def main() -> None:
    work = measuring.read_work()
    model = CrossEncoder(
        work["model"], max_length=work["max_length"], device="cpu", local_files_only=True,
        model_kwargs={"dtype": torch.bfloat16},
    )  # fmt: skip

    def run(pairs: list[list[str]]) -> Any:
        return model.predict([tuple(pair) for pair in pairs], batch_size=8, show_progress_bar=False).tolist()

    measuring.measure(run, work["texts"])


if __name__ == "__main__":
    main()
