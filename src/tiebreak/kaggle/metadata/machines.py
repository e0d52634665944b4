"""What Kaggle runs notebooks on and what it calls frameworks."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

T4X2: Final = "NvidiaTeslaT4"
"""Two T4: Kaggle gives no single one."""

GPUS: Final = (T4X2, "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100", "NvidiaRtxPro6000")
TPUS: Final = ("TpuV5E8", "TpuV6E8")
SHAPES: Final = (*GPUS, *TPUS)
"""Names of accelerators. Some are open to single competitions alone."""

RETIRED: Final = {"NvidiaTeslaP100": T4X2, "TpuV38": "TpuV5E8", "Tpu1VmV38": "TpuV5E8"}
"""What is gone, and what the server silently takes in its place."""

INTERNAL: Final = ("NvidiaTeslaT4Highmem",)
"""Pools of Kaggle's own staff."""

FRAMEWORKS: Final = (
    "tensorFlow1",
    "tensorFlow2",
    "tfLite",
    "tfJs",
    "pyTorch",
    "jax",
    "flax",
    "pax",
    "maxText",
    "gemmaCpp",
    "ggml",
    "gguf",
    "coral",
    "scikitLearn",
    "mxnet",
    "onnx",
    "keras",
    "transformers",
    "api",
    "other",
    "tensorRtLlm",
    "triton",
    "vllm",
)
"""Frameworks of models."""

INSTANCE_TYPES: Final = ("Unspecified", "BaseModel", "KaggleVariant", "ExternalVariant")

_NAMED = {"sklearn": "scikitLearn", "torch": "pyTorch", "lightgbm": "other", "safetensors": "transformers"}


def framework(name: str) -> str | None:
    """The framework that a name means, spelt as Kaggle's documents do; None where Kaggle has none of that name.

    Kaggle's client looks names up without regard to capitals and underscores.
    """
    return {_key(item): item for item in FRAMEWORKS}.get(_key(name).removeprefix("modelframework"))


def near_framework(name: str) -> str:
    """What was probably meant by an unknown framework."""
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    return _NAMED.get(bare) or framework(bare) or _nearest(name, FRAMEWORKS) or "other"


def instance_type(name: str) -> str | None:
    """The type of instance that a name means; None where there is none."""
    return {_key(item): item for item in INSTANCE_TYPES}.get(_key(name).removeprefix("modelinstancetype"))


def near_shape(name: str) -> str | None:
    """What was probably meant by an unknown accelerator."""
    exact = {_key(item): item for item in SHAPES}.get(_key(name))
    return exact or ("NvidiaTeslaT4" if "t4" in name.lower() else _nearest(name, SHAPES))


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def _nearest(name: str, names: tuple[str, ...]) -> str | None:
    near = get_close_matches(_key(name), [_key(item) for item in names], n=1, cutoff=0.6)
    return next((item for item in names if near and _key(item) == near[0]), None)
