"""Checkpoints on the way: the judge's network whole, and what the worker made of it in a bundle's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tiebreak.errors import UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.base.locate import weight_files
from tiebreak.judges.base.names import Located

if TYPE_CHECKING:
    import torch

    from tiebreak.judges.finetuned import FinetunedJudge, Settings

INDEX: Final = "model.safetensors.index.json"
UNTOUCHED: Final = ["re:.*pooler.*"]
"""Linear layers of a backbone that belong to its head."""

_PACKED: Final = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")


def write_plain(judge: FinetunedJudge, base: Base, directory: Path, folder: Path) -> dict[str, Any]:
    """Write the network of a judge as one plain checkpoint, an adapter merged in fp32, in the type of its base.

    Args:
        judge: Whose network.
        base: Where the weights below an adapter are.
        directory: Its bundle.
        folder: An existing folder.

    Returns:
        `widths`: numbers of inputs of the linear layers of the backbone; `prefix`: the backbone's name in the model.
    """
    import torch
    from torch import nn

    from tiebreak.judges.base.loading import config
    from tiebreak.judges.model import GENERATIVE, JudgeModel

    settings = judge.settings
    stored = config(base).dtype
    network = JudgeModel.restore(
        base, settings.head, judge.kind, adapter=directory if settings.adapter else None,  # type: ignore[arg-type]
        soft_capping=settings.soft_capping, dtype=torch.float32, pooling=settings.pooling,
    )  # fmt: skip
    model = network.model
    prefix = model.base_model_prefix
    backbone = getattr(model, prefix)
    for name, parameter in model.named_parameters():
        # What was trained on top stays in fp32; the head of a language model is a part of what was published.
        if name.startswith(f"{prefix}.") or judge.kind == GENERATIVE:
            parameter.data = parameter.data.to(stored or torch.float32)
    model.config.dtype = stored or torch.float32
    network.files(folder)
    linear = [m for name, m in backbone.named_modules() if isinstance(m, nn.Linear) and "pooler" not in name]
    return {"widths": sorted({module.in_features for module in linear}), "prefix": prefix}


def assemble(plain: Path, quantised: Path, target: Path, prefix: str) -> None:
    """Put the quantised backbone and the head that was left alone into one checkpoint.

    Args:
        plain: The whole network.
        quantised: Its backbone as the worker wrote it, under names of its own.
        target: An existing folder.
        prefix: Name of the backbone within the whole.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    known, head = _tensors(plain, prefix)
    files = _files(quantised)
    places: dict[str, str] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            tensors = {f"{prefix}.{name}": file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tensors = {name: tensor for name, tensor in tensors.items() if _whole(name) in known}
        if path == files[-1]:
            tensors |= head
        save_file(tensors, target / path.name, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, path.name)
    if len(files) > 1:
        index = {"metadata": {"total_size": size(target)}, "weight_map": places}
        (target / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    document = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    scheme = json.loads((quantised / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    scheme["ignore"] = sorted(
        {f"{prefix}.{name}" for name in scheme.get("ignore") or [] if f"{prefix}.{name}.weight" in known}
        | {name.removesuffix(".weight") for name, tensor in head.items() if tensor.ndim == 2}
        | {"lm_head" for name in document.get("architectures") or [] if name.endswith("ForCausalLM")}  # tied or not
    )
    document["quantization_config"] = scheme
    (target / "config.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_nf4(plain: Path, settings: Settings, kind: Any, target: Path) -> None:
    """Write a plain checkpoint in 4 bits of bitsandbytes.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    import torch

    from tiebreak.judges.model import JudgeModel

    # Written as loaded: on some CPUs the first forward turns the weights into a form that cannot be saved.
    network = JudgeModel.restore(
        Base(name=str(plain)), settings.head, kind, quantize="nf4", soft_capping=settings.soft_capping,
        dtype=torch.bfloat16, pooling=settings.pooling,
    )  # fmt: skip
    network.files(target)


def size(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def check_family(widths: list[int]) -> None:
    """Refuse a network that has nothing to compress.

    Raises:
        UsageError: The backbone has no linear layers of torch.
    """
    if not widths:
        raise UsageError("the backbone has no linear layers", expected="a transformer of torch's linear layers")


def _files(folder: Path) -> list[Path]:
    return weight_files(Located(Base(name=str(folder)), folder))


def _tensors(plain: Path, prefix: str) -> tuple[set[str], dict[str, torch.Tensor]]:
    """The names in a checkpoint, and the tensors outside the backbone."""
    from safetensors import safe_open

    names: set[str] = set()
    head: dict[str, torch.Tensor] = {}
    for path in _files(plain):
        with safe_open(path, framework="pt") as file:
            here = set(file.keys())
            names |= here
            head |= {name: file.get_tensor(name) for name in here if not name.startswith(f"{prefix}.")}
    return names, head


def _whole(name: str) -> str:
    """The name of the weight that a tensor is a part of."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.weight" if part in _PACKED else name
