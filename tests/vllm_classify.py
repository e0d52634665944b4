"""Run with the Python of vLLM: `vllm_classify.py BUNDLE TOKENS.json DTYPE` prints the logits of each row as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(bundle: str, tokens: str, dtype: str) -> None:
    from vllm import LLM, PoolingParams

    rows = json.loads(Path(tokens).read_text())
    model = LLM(model=bundle, runner="pooling", dtype=dtype, max_model_len=512, enforce_eager=True)
    prompts = [{"prompt_token_ids": row} for row in rows]
    found = model.classify(prompts, pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
    sys.stdout.write("\n" + json.dumps([[float(value) for value in row.outputs.probs] for row in found]) + "\n")


if __name__ == "__main__":
    os.environ |= {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }  # fmt: skip
    main(*sys.argv[1:4])
