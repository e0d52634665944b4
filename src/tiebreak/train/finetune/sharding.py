"""FSDP2: weights, gradients and optimiser state of full fine-tuning, spread over the processes.

`fully_shard` of torch itself, since Trainer's own `fsdp` silently trains copies on a CPU.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from tiebreak.errors import UsageError
from tiebreak.judges.model import JudgeModel
from tiebreak.train.finetune import modelling, processes
from tiebreak.train.finetune.recipe import Recipe


def check(recipe: Recipe) -> None:
    """Refuse what cannot be sharded.

    Raises:
        UsageError: The recipe asks for FSDP2 together with quantisation, an 8-bit optimiser, adapters or fp16.
    """
    clashes = {
        "quantize": recipe.quantize is not None,
        "lora": recipe.lora is not None,
        f"optimiser.name={recipe.optimiser.name}": "8bit" in recipe.optimiser.name,
        "precision=fp16": recipe.precision == "fp16",
    }
    if found := [name for name, there in clashes.items() if there]:
        raise UsageError(
            f"strategy fsdp does not go with {', '.join(found)}",
            expected="full fine-tuning in fp32 or bf16 with adamw or kahan_adamw",
            mend="strategy=ddp",
        )


def shard(model: JudgeModel, device: str) -> None:
    """Spread the parameters over all processes, block by block. They become DTensors, in place."""
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (processes.world(),))
    # The head apart, since it is fp32 beside a backbone in bf16, and a group has one type.
    for module in (*modelling.blocks(model), *modelling.top(model)):
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def release(model: nn.Module) -> None:
    """Let go of gathered weights. The root keeps its own until a backward pass, and would not see others put in."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
