"""How much memory a training takes, from the shapes of its network alone.

    weights      bytes of every parameter as it is held: a frozen linear layer in NF4 takes 0.5 + 1/64 + 4/16384 bytes a
                 weight (4 bits; an 8-bit scale for each 64 weights, a 32-bit one for each 256 scales)
    gradients    bytes of every trained parameter
    optimiser    adamw two numbers of the weight's type; 8-bit adamw two bytes and two 32-bit scales for each 256
                 weights (weights of fewer than 4,096 elements keep 32-bit states); kahan_adamw see `kahan`
    casts        mixed precision keeps a copy of every trained matrix in the type it computes in until the backward pass
    activations  what autograd keeps of the forward pass of one micro-batch, and the gradients inside one block:
                     kept         = a n + q n s        n tokens in sequences of s tokens
                     plain        = kept (1 + 1 / blocks)
                     checkpointed = inputs of the blocks + 2 kept / blocks
                 a and q are measured: the network runs forward at its real size on torch's meta device, and every
                 tensor that autograd saves is counted once. q counts only where the attention keeps its scores: with
                 soft-capping, in DeBERTa, with dropout on them

Not in it: CUDA itself (about half a GB), fragmentation, and the loading of a checkpoint. Under FSDP weights, gradients
and states are divided by the processes, and one block stands whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from tiebreak.engine import pack
from tiebreak.judges.model import JudgeModel
from tiebreak.train.finetune import modelling
from tiebreak.train.finetune.kahan import COARSEST_DECAY
from tiebreak.train.finetune.recipe import Recipe

NF4_BYTES: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
SMALLEST_8BIT: Final = 4096
LENGTHS: Final = (512, 1024)
"""Tokens of the two forward passes that are counted: tables that do not grow with the tokens are small beside them."""

SHORT: Final = 64
"""Tokens of the one pass of a model that keeps no scores; the meta device does keep them, but so few are nothing."""


@dataclass(frozen=True)
class Memory:
    """Bytes in each process, by what they are for."""

    weights: int
    gradients: int
    optimiser: int
    casts: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimiser + self.casts + self.activations


def estimate(model: JudgeModel, recipe: Recipe, *, processes: int = 1) -> Memory:
    """The memory of a training.

    Args:
        model: Of `modelling.build(recipe, meta=True)`; afterwards it is of the type that it computes in.
        recipe: The recipe.
        processes: Over how many the rows of a step, and with FSDP the weights, are spread.
    """
    own = [(name, parameter) for name, parameter in model.named_parameters() if ".original_module." not in name]
    in_four_bits = _quantised(model) if recipe.quantize else set()
    trained = [parameter for _, parameter in own if parameter.requires_grad]
    parts = {
        "weights": sum(NF4_BYTES * p.numel() if id(p) in in_four_bits else p.nbytes for _, p in own),
        "gradients": sum(parameter.nbytes for parameter in trained),
        "optimiser": sum(_states(parameter, recipe) for parameter in trained),
    }
    casts = 0 if recipe.precision == "fp32" else _casts(model, trained)
    whole = 0.0
    if recipe.strategy == "fsdp" and processes > 1:
        block = sum(parameter.nbytes for parameter in modelling.blocks(model)[0].parameters())
        parts = {name: size / processes for name, size in parts.items()}
        whole = 2 * block  # its weights and their gradient, gathered
    activations = _activations(model, recipe)
    sizes = {name: math.ceil(size) for name, size in parts.items()}
    return Memory(casts=casts, activations=math.ceil(activations + whole), **sizes)


def saved_bytes(model: JudgeModel, length: int, sequences: int = 1, device: str = "meta") -> int:
    """Bytes that autograd keeps of a forward pass over sequences of one length; each tensor once, parameters never."""
    seen: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen[_storage(tensor)] = tensor
        return tensor

    count = sequences * (2 if model.kind == "siamese" else 1)
    packed = pack([np.zeros(length, dtype=np.int64)] * count, device)
    pairs = torch.arange(count, device=device).view(-1, 2) if model.kind == "siamese" else None
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(packed, pairs)
    held = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    del logits
    return sum(tensor.untyped_storage().nbytes() for key, tensor in seen.items() if key not in held)


def _activations(model: JudgeModel, recipe: Recipe) -> float:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]
    model.to(dtype).train()
    modelling.checkpointing(model, wanted=False)
    pair = 2 if model.kind == "siamese" else 1
    quadratic = 0.0
    if _keeps_scores(model):
        short, long = (saved_bytes(model, length) / (length * pair) for length in LENGTHS)
        quadratic = (long - short) / (LENGTHS[1] - LENGTHS[0])
        linear = short - quadratic * LENGTHS[0]
    else:
        linear = saved_bytes(model, SHORT) / (SHORT * pair)
    longest = max(template.max_length for template in recipe.templates)
    tokens = max(recipe.batches.tokens, longest)
    kept = linear * tokens + quadratic * tokens * longest
    depth = len(modelling.blocks(model))
    if not recipe.checkpointing:
        return kept * (1 + 1 / depth)
    inputs: int = depth * tokens * model.pooled.config.hidden_size * dtype.itemsize
    return inputs + 2 * kept / depth


def _keeps_scores(model: JudgeModel) -> bool:
    """Whether a table of tokens by tokens is kept of each attention; fused kernels keep none."""
    settings = model.pooled.config
    capped = settings.model_type == "gemma2" and settings.attn_logit_softcapping is not None
    dropped = getattr(settings, "attention_probs_dropout_prob", 0) or getattr(settings, "attention_dropout", 0)
    return bool(capped or dropped or settings.model_type == "deberta-v2")


def _quantised(model: JudgeModel) -> set[int]:
    """Identities of the weights that NF4 holds: frozen linear layers of the blocks."""
    return {
        id(module.weight)
        for block in modelling.blocks(model)
        for module in block.modules()
        if isinstance(module, nn.Linear) and not module.weight.requires_grad
    }


def _states(parameter: Tensor, recipe: Recipe) -> float:
    count, size = parameter.numel(), parameter.element_size()
    if recipe.optimiser.name == "kahan_adamw" and parameter.dtype == torch.bfloat16:
        return count * (2 + 2 + (4 if 1 - recipe.optimiser.betas[1] < COARSEST_DECAY else 2))
    if "8bit" in recipe.optimiser.name:
        return count * (2 + 2 * 4 / 256) if count >= SMALLEST_8BIT else 8 * count
    return 2 * count * size


def _casts(model: JudgeModel, trained: Sequence[Tensor]) -> int:
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return sum(
        2 * p.numel() for p in trained if p.dim() > 1 and p.element_size() > 2 and id(p) not in embeddings
    )  # fmt: skip


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
