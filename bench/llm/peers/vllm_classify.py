"""vLLM's `classify` on a CPU, in bf16. Choices: eager | compiled, sequences | both (both orders, prefix caching)."""

from __future__ import annotations

import os
import sys
from typing import Any

import measuring

os.environ |= {
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR",
}  # fmt: skip


def main() -> None:
    from vllm import LLM

    work = measuring.read_work()
    llm = LLM(
        model=work["model"], runner="pooling", dtype="bfloat16", max_model_len=work["max_length"],
        enforce_eager=sys.argv[2] == "eager", enable_prefix_caching=sys.argv[3] == "both",
        max_num_batched_tokens=4096,
    )  # fmt: skip

    def run(sequences: list[list[int]]) -> Any:
        if sys.argv[3] == "both":
            llm.reset_prefix_cache()
        prompts: Any = [{"prompt_token_ids": row} for row in sequences]
        return [found.outputs.probs for found in llm.classify(prompts, use_tqdm=False)]

    measuring.measure(run, work[sys.argv[3]])


if __name__ == "__main__":
    main()
