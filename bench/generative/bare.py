"""vLLM's own `generate`, as its documentation has it, in one process: `python bare.py MODEL ROUNDS.json MODE`.

MODE is `default` (vLLM compiles the model) or `eager`. Waits for a line on stdin with the number of a round, answers
with a line of JSON on the stream that was stdout: seconds, and the three log-probabilities of each sequence.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR",
}  # fmt: skip


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams

    model, file, mode = sys.argv[1:4]
    work = json.loads(Path(file).read_text(encoding="utf-8"))
    llm = LLM(
        model=model, dtype="bfloat16", max_model_len=work["max_length"] + 1, logprobs_mode="processed_logprobs",
        enforce_eager=mode == "eager", skip_tokenizer_init=True,
    )  # fmt: skip
    tokens = work["tokens"]
    sampling = SamplingParams(max_tokens=1, temperature=0, allowed_token_ids=tokens, logprobs=len(tokens))

    def answer(**said: Any) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    answer(ready=True)
    for line in sys.stdin:
        prompts: Any = [{"prompt_token_ids": row} for row in work["rounds"][int(line)]]
        started, spent = time.perf_counter(), time.process_time()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        found = [[output.outputs[0].logprobs[0][token].logprob for token in tokens] for output in outputs]
        answer(seconds=time.perf_counter() - started, cpu=time.process_time() - spent, found=found)


if __name__ == "__main__":
    main()
