"""From a checkpoint and the choices of a run to the arguments of vLLM."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any, Final

from tiebreak.errors import DataError, UsageError
from tiebreak.judges.generative.vllm.process import Engine
from tiebreak.judges.generative.vllm.worker import LONGEST_LIST
from tiebreak.judges.runtime import AUTO, Runtime

DTYPES: Final = {AUTO: "suitable", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
EAGER: Final = "TIEBREAK_VLLM_EAGER"
"""Environment variable: 1 runs models as they are, so that vLLM starts a minute sooner and is a little slower."""

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
ADAPTER: Final = "adapter_config.json"
RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of LoRA that vLLM makes room for."""

_ROOM: Final = 16384
"""Tokens in the KV cache of a CPU, beside the longest sequence."""


def engine(
    checkpoint: Path, runtime: Runtime, *, max_length: int, adapter: Path | None = None, writes: bool = False
) -> Engine:
    """How vLLM is to run a model.

    Args:
        checkpoint: Folder with config.json and weights, perhaps quantised (AWQ, GPTQ, compressed-tensors).
        runtime: Choices of this run.
        max_length: Tokens of one sequence with its answer at most.
        adapter: Folder of a LoRA adapter; it is applied beside the weights and never merged into them.
        writes: Whether texts are asked for, whose ends are found in text.

    Raises:
        UsageError: A choice is not one that vLLM has.
        DataError: config.json or adapter_config.json is not there.
    """
    config = read(checkpoint / "config.json")
    devices = _devices(runtime.devices)
    arguments: dict[str, Any] = {
        "model": str(checkpoint.resolve()), "dtype": _dtype(config, runtime), "max_model_len": max_length,
        "tensor_parallel_size": max(1, len(devices)), "enable_prefix_caching": True,
        "skip_tokenizer_init": not writes, "seed": 0, "trust_remote_code": False,
        # vLLM compiles the model, which pays after some thousand rows. Who asks for fp32 compares figures: compiled
        # sums are added up in another order.
        "enforce_eager": runtime.precision == "fp32" or os.environ.get(EAGER, "0") not in {"", "0"},
    }  # fmt: skip
    if not writes:
        arguments |= {"logprobs_mode": "processed_logprobs", "max_logprobs": LONGEST_LIST}
    if not (config.get("quantization_config") or {}).get("lm_head"):
        # In 16 bits a logit of 20 is known to 0.06 or 0.125 only.
        arguments["hf_overrides"] = {"head_dtype": "float32"}
    if runtime.max_tokens is not None:
        arguments["max_num_batched_tokens"] = max(runtime.max_tokens, max_length)
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(adapter)}
    variables = {"VLLM_CPU_KVCACHE_SPACE": str(cache_gib(config, max_length))}
    if not devices:
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process less: starts in a quarter of the time
    bound = {VISIBLE: ",".join(_visible(devices))} if devices else {}
    return Engine(arguments, adapter, variables, bound)


def cache_gib(config: dict[str, Any], max_length: int) -> int:
    """Room for keys and values on a CPU, GiB: what is read at once, and beginnings that are read again."""
    text = config.get("text_config", config)
    heads = text["num_attention_heads"]
    size = text.get("head_dim") or text["hidden_size"] // heads
    numbers: int = 2 * text["num_hidden_layers"] * (text.get("num_key_value_heads") or heads) * size
    return math.ceil(4 * numbers * (_ROOM + max_length) / 2**30)


def _dtype(config: dict[str, Any], runtime: Runtime) -> str:
    if runtime.precision not in DTYPES:
        raise UsageError(
            f"--precision {runtime.precision}: vLLM rounds nothing at load",
            expected=f"one of {', '.join(DTYPES)}, or a checkpoint that has few bits already",
        )
    if runtime.precision == AUTO and config.get("quantization_config"):
        return "auto"  # kernels of few bits have types of their own
    return DTYPES[runtime.precision]


def _devices(choice: str) -> list[int]:
    """Numbers of the GPUs; none: what vLLM finds by itself."""
    if choice == "ranks":
        raise UsageError("--devices ranks: vLLM splits layers itself", expected='"cuda:0,cuda:1", or one judge a rank')
    return [int(number) for number in re.findall(r"cuda:(\d+)", choice)]


def _visible(devices: list[int]) -> list[str]:
    """As CUDA names them, where this process itself may see some of them only."""
    seen = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    if seen and max(devices) >= len(seen):
        raise UsageError(f"--devices cuda:{max(devices)}: {VISIBLE} is {','.join(seen)}", expected="one of these")
    return [seen[number] if seen else str(number) for number in devices]


def _rank(adapter: Path) -> int:
    rank = int(read(adapter / ADAPTER)["r"])
    if rank > RANKS[-1]:
        raise UsageError(
            f"{adapter}: LoRA of rank {rank}", expected=f"a rank of at most {RANKS[-1]} with vLLM",
            mend="tiebreak combine merge, or --backend transformers",
        )  # fmt: skip
    return next(room for room in RANKS if rank <= room)


def window(checkpoint: Path) -> int | None:
    """The longest sequence that a model was made for; None where its configuration does not say."""
    config = read(checkpoint / "config.json")
    found: int | None = config.get("text_config", config).get("max_position_embeddings")
    return found


def read(path: Path) -> dict[str, Any]:
    """A document of JSON.

    Raises:
        DataError: It is not there, or is none.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    return document
