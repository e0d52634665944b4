"""From a recipe to the network that is trained, and to groups of its parameters with their learning rates."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from tiebreak.comparisons import LABELS
from tiebreak.errors import UsageError
from tiebreak.judges.base import config, heads
from tiebreak.judges.base.loading import tokenizer
from tiebreak.judges.generative.settings import SPELLINGS
from tiebreak.judges.generative.verdicts import Tree, Verdicts, tokens_of
from tiebreak.judges.model import GENERATIVE, JudgeModel, Spellings
from tiebreak.train.finetune import shapes
from tiebreak.train.finetune.recipe import Recipe

_DECODER: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

LINEAR: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"), _DECODER),
    "bert": ("query", "key", "value", "dense"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    "modernbert": ("Wqkv", "Wi", "Wo"),
}
"""The linear layers inside the blocks of a family, by its `model_type`."""

OUTSIDE: Final = (r"(.*\.)?(pooler|head|classifier|score)(\..*)?",)
"""Modules that are never adapted: they are trained in full, or not at all."""

_VOCABULARY: Final = "lm_head"

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build(recipe: Recipe, *, device: Any = None, meta: bool = False) -> JudgeModel:
    """The network of a recipe, ready to train: what is trained requires a gradient, everything else does not.

    New weights come from torch's global generator: seed it before.

    Args:
        recipe: The recipe.
        device: Where to load to; None is the CPU.
        meta: Make the shapes alone, of `base.shape` where the recipe names one. Weights in 4 bits stay as they are.

    Raises:
        UsageError: The base is not there, or the recipe does not fit it.
        DataError: The base is not a model that a judge can be made of.
    """
    # Where the weights are, their own configuration counts and not the one that ships for dry runs.
    base = recipe.base if meta else recipe.base.model_copy(update={"shape": None})
    fields = None if recipe.lora is None else adapter(recipe)
    model = JudgeModel.build(
        base, recipe.head, recipe.judge, lora=fields, quantize=None if meta else recipe.quantize,
        soft_capping=recipe.soft_capping, dtype=weights_dtype(recipe), device=device, meta=meta,
        spellings=spellings(recipe) if recipe.judge == GENERATIVE else None,
    )  # fmt: skip
    for module in top(model):
        module.to(torch.float32)
    checkpointing(model, wanted=recipe.checkpointing)
    if recipe.quantize:
        _norms_in_fp32(model)
    if recipe.freeze:
        _freeze(model, recipe.freeze)
    return model


def verdicts(recipe: Recipe) -> Verdicts:
    """How a generative judge of this recipe spells each verdict."""
    return recipe.verdicts or SPELLINGS.get(recipe.templates[0].name, Verdicts())


def spellings(recipe: Recipe) -> Spellings:
    """The tokens of each verdict, a, b, tie; where the tokenizer is not here, the first ones of the vocabulary.

    Raises:
        UsageError: A spelling is several tokens: the loss sees one prediction, that of the next token.
    """
    if not shapes.here(recipe.base):
        return ((0,), (1,), (2,))
    said = verdicts(recipe)
    tree = Tree.of(said, tokenizer(recipe.base))
    if not tree.single:
        longer = [text for texts in said.model_dump().values() for text in texts if not _one(text, recipe)]
        raise UsageError(
            f"recipe {recipe.name}: verdicts {', '.join(map(repr, longer))} are several tokens of {recipe.base.name}",
            expected="spellings of one token each: a generative judge is trained on the next token",
            mend="verdicts={a: [A], b: [B], tie: [C]} with a template whose last words ask for them, such as pab",
        )
    return tuple(
        tuple(token for token, owner in zip(tree.tokens, tree.labels[0], strict=True) if owner == label)
        for label in range(len(LABELS))
    )


def _one(text: str, recipe: Recipe) -> bool:
    return len(tokens_of(tokenizer(recipe.base), text)) == 1


def weights_dtype(recipe: Recipe) -> torch.dtype:
    """Of the backbone's weights: a frozen base is held as it computes, a trained one as the optimiser needs it."""
    if recipe.lora is None:
        return torch.bfloat16 if recipe.trained_dtype == "bfloat16" else torch.float32
    return _DTYPES[recipe.precision]


def adapter(recipe: Recipe) -> dict[str, Any]:
    """The fields of peft's LoraConfig.

    peft refuses `layers_to_transform` beside its own "all-linear", which would adapt the pooler too: so the linear
    layers of the blocks are named.

    Raises:
        UsageError: The family is not known and the recipe says "all", or the model has not so many blocks.
    """
    lora = recipe.lora
    assert lora is not None  # noqa: S101 - the caller asked
    settings = config(recipe.base)
    targets = targets_of(settings.model_type) if lora.targets == "all" else list(lora.targets)
    fields: dict[str, Any] = {
        "r": lora.r, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "use_rslora": lora.rslora, "bias": "none",
        "target_modules": targets, "exclude_modules": _VOCABULARY if recipe.judge == GENERATIVE else OUTSIDE[0],
    }  # fmt: skip
    if lora.layers is not None:
        first, last = lora.layers
        if last >= settings.num_hidden_layers:
            raise UsageError(
                f"recipe {recipe.name}: lora.layers {first} to {last}",
                expected=f"blocks of {recipe.base.name}: 0 to {settings.num_hidden_layers - 1}",
            )
        fields["layers_to_transform"] = list(range(first, last + 1))
    return fields


def targets_of(family: str) -> list[str]:
    """The names that `targets: all` stands for.

    Raises:
        UsageError: The family is not in `LINEAR`.
    """
    if family not in LINEAR:
        raise UsageError(
            f"lora.targets all: the linear layers of {family!r} are not known",
            expected=f"one of the families {', '.join(LINEAR)}, or the names of linear layers",
            mend="lora.targets=[q_proj,k_proj,v_proj]",
        )
    return list(LINEAR[family])


def parameter_groups(model: JudgeModel, recipe: Recipe) -> list[dict[str, Any]]:
    """What is trained, in groups for an optimiser: backbone (or its adapters) and head, with and without decay.

    Biases and norms (everything with fewer than two dimensions) do not decay.

    Returns:
        Groups with `name`, `params`, `lr` and `weight_decay`; none is empty.
    """
    upper = {id(parameter) for module in top(model) for parameter in module.parameters()}
    decay = recipe.optimiser.weight_decay
    rates = {"backbone": recipe.optimiser.lr, "head": recipe.head_lr}
    groups = {
        (part, decays): {"name": part if decays else f"{part} without decay", "params": [], "lr": rate,
                         "weight_decay": decay if decays else 0.0}
        for part, rate in rates.items() for decays in (True, False)
    }  # fmt: skip
    for parameter in model.parameters():
        if parameter.requires_grad:
            part = "head" if id(parameter) in upper else "backbone"
            groups[part, parameter.dim() > 1]["params"].append(parameter)  # type: ignore[attr-defined]
    return [group for group in groups.values() if group["params"]]


def checkpointing(model: JudgeModel, *, wanted: bool) -> None:
    """Have the activations inside the blocks computed again in the backward pass, or kept.

    Without reentrance, so that inputs that need no gradient (a frozen embedding's) are no obstacle.
    """
    inner = model.base_model
    given = any(getattr(module, "gradient_checkpointing", False) for module in inner.modules())
    if wanted == given:
        return
    # transformers renamed both on the way from 5.17 to 5.23.
    kind = "activation" if hasattr(inner, "activation_checkpointing_enable") else "gradient"
    if wanted:
        inner.config.use_cache = False  # a classifier has no use for one, and transformers would say so at each step
        getattr(inner, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(inner, f"{kind}_checkpointing_disable")()


def blocks(model: JudgeModel) -> nn.ModuleList:
    """The blocks of the backbone, bottom first."""
    lists = [module for module in model.pooled.backbone.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def top(model: JudgeModel) -> list[nn.Module]:
    """The head, and what the family has between the pooled state and it."""
    if model.kind == GENERATIVE:  # its head is the vocabulary's: frozen beside an adapter, else one with the embedding
        return []
    names = heads.parts(model.base_model) if model.kind == "classifier" else [heads.last(model.base_model)]
    return [model.base_model.get_submodule(name) for name in names]


def _norms_in_fp32(model: JudgeModel) -> None:
    """As prepare_model_for_kbit_training of peft, but not the embeddings: frozen, they only double in size."""
    for parameter in model.pooled.backbone.parameters():
        if parameter.dim() == 1 and parameter.dtype in {torch.float16, torch.bfloat16}:
            parameter.data = parameter.data.float()


def _freeze(model: JudgeModel, count: int) -> None:
    backbone, stack = model.pooled.backbone, blocks(model)
    if count > len(stack):
        raise UsageError(f"freeze {count}", expected=f"at most the {len(stack)} blocks of the model")
    embeddings = getattr(backbone, "embeddings", None) or backbone.get_input_embeddings()  # type: ignore[operator]
    for module in (embeddings, *stack[:count]):
        module.requires_grad_(requires_grad=False)
