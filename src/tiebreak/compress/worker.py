"""Quantises the backbone of a checkpoint by llm-compressor, in an environment of llm-compressor's own.

Run by path with the Python of that environment, where tiebreak is not installed: `python -I worker.py FOLDER`. FOLDER
holds `plain/` (a checkpoint), `calibration.safetensors` (`ids` and `offsets`) and `settings.json`; `quantised/` appears
in it whole or not at all.
"""

from __future__ import annotations

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import AutoModel


def calibration(path: Path) -> list[dict[str, torch.Tensor]]:
    """The token ids of each row, a batch of one."""
    tensors = load_file(path)
    rows = [tensors["ids"][start:end][None] for start, end in pairwise(tensors["offsets"].tolist())]
    return [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows]


def scheme(settings: dict[str, Any]) -> dict[str, QuantizationScheme]:
    """How the linear layers are to be held."""
    group = settings["group"]
    weights = QuantizationArgs(
        num_bits=settings["bits"], type="int", symmetric=settings["symmetric"], group_size=group,
        strategy="channel" if group is None else "group",
    )  # fmt: skip
    inputs = None
    if settings["activation_bits"] == 8:
        inputs = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
    return {"linear": QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs)}


def modifier(settings: dict[str, Any], model: Any) -> Any:
    """The algorithm."""
    shared: dict[str, Any] = {"config_groups": scheme(settings), "ignore": settings["ignore"]}
    if settings["algorithm"] == "gptq":
        return GPTQModifier(**shared)
    from llmcompressor.modifiers.awq import AWQModifier
    from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY

    # Families are registered by their language models; this is the backbone alone, and the patterns fit it as well.
    family = type(model).__name__.removesuffix("Model") + "ForCausalLM"
    if family not in AWQ_MAPPING_REGISTRY:
        known = ", ".join(sorted(name.removesuffix("ForCausalLM") for name in AWQ_MAPPING_REGISTRY))
        raise SystemExit(f"AWQ does not know which layers of {type(model).__name__} to scale (it knows {known})")
    return AWQModifier(mappings=AWQ_MAPPING_REGISTRY[family], n_grid=settings["grid"], **shared)


def main(folder: Path) -> None:
    """Quantise what lies in the folder."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    if not torch.cuda.is_available():
        # Without a GPU there is nothing to copy to in the background, and torch refuses to pin memory for it.
        IntermediatesCache.pin_memory = lambda self, *_, **__: None
    model = AutoModel.from_pretrained(folder / "plain", local_files_only=True, use_safetensors=True)
    rows = calibration(folder / "calibration.safetensors")
    oneshot(
        model=model, dataset=DataLoader(rows, batch_size=None), recipe=modifier(settings, model),  # type: ignore[arg-type]
        processor=object(),  # asked for with any rows, used with rows of text alone
    )  # fmt: skip
    aside = folder / "quantised.partial"
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside, save_compressed=True)
    aside.rename(folder / "quantised")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
