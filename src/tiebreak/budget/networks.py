"""The size of a network from its configuration alone, without torch: weights, what is trained, arithmetic of a token.

The same counts as a dry run of `tiebreak train` finds on torch's meta device (held by a test for every shape that
ships), in microseconds instead of seconds, so that a plan of forty jobs appears at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tiebreak.train.finetune.recipe import Recipe

NF4_BYTES: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in NF4 with double quantisation (QLoRA, arXiv 2305.14314, section 3)."""


@dataclass(frozen=True)
class Network:
    """The parts of a network that cost something.

    Attributes:
        blocks: How many there are.
        linear: Name, inputs and outputs of each linear layer of a block.
        block_rest: Biases and norms of a block.
        embeddings: Weights of the embeddings, with their norm.
        outside: Other weights of the backbone beside the blocks.
        pooler: Weights between the backbone and the head.
        head: Weights of the head.
        unused: Weights that are there and neither used nor trained.
    """

    blocks: int
    linear: tuple[tuple[str, int, int], ...]
    block_rest: int
    embeddings: int
    outside: int
    pooler: int
    head: int
    unused: int = 0

    @property
    def block_linear(self) -> int:
        """Weights of the linear layers of a block."""
        return sum(inputs * outputs for _, inputs, outputs in self.linear)

    @property
    def base(self) -> int:
        """Weights without adapters."""
        return (
            self.blocks * (self.block_linear + self.block_rest)
            + self.embeddings
            + self.outside
            + self.top
            + self.unused
        )

    @property
    def top(self) -> int:
        """Weights above the backbone."""
        return self.pooler + self.head


@dataclass(frozen=True)
class Size:
    """What a recipe makes of a network.

    Attributes:
        parameters: All weights, adapters with them.
        trainable: Those that are trained.
        weight_bytes: Of all weights as they are held while training.
        forward: Floating-point operations of a token in the forward pass.
        training: Floating-point operations of a token in a step: forward, backward, and what checkpointing repeats.
    """

    parameters: int
    trainable: int
    weight_bytes: int
    forward: float
    training: float

    @property
    def training_bytes(self) -> int:
        """Of weights, gradients and the two states of Adam in fp32; activations come on top."""
        return self.weight_bytes + 12 * self.trainable


def network(settings: Mapping[str, Any], recipe: Recipe | None = None) -> Network | None:
    """The network of a recipe; None where the family is not known.

    Args:
        settings: The fields of the model's config.json.
        recipe: Its head and its kind of judge count; None: the backbone alone.
    """
    family = settings.get("model_type", "")
    if family in CAUSAL:
        return _decoder(settings, recipe)
    return _encoder(settings, recipe) if family in _ENCODERS else None


def size(settings: Mapping[str, Any], recipe: Recipe) -> Size | None:
    """What a training by a recipe holds and computes; None where the family of the model is not known."""
    found = network(settings, recipe)
    if found is None:
        return None
    adapters = sum(each for _, each in _adapters(found, recipe))
    trainable = found.top + adapters
    if recipe.lora is None:
        frozen = found.embeddings if recipe.freeze else 0
        trainable = found.base - found.unused - frozen - recipe.freeze * (found.block_linear + found.block_rest)
    return Size(
        parameters=found.base + adapters,
        trainable=trainable,
        weight_bytes=round(_bytes(found, recipe) + 4 * adapters),
        forward=2.0 * (found.blocks * found.block_linear + adapters),
        training=_training(found, recipe),
    )


def _adapters(found: Network, recipe: Recipe) -> Iterator[tuple[int, int]]:
    """The number of each adapted block, and the weights of its adapters."""
    lora = recipe.lora
    if lora is None:
        return
    first, last = lora.layers or (0, found.blocks - 1)
    wanted = [layer for layer in found.linear if lora.targets == "all" or layer[0] in lora.targets]
    for block in range(first, last + 1):
        yield block, sum(lora.r * (inputs + outputs) for _, inputs, outputs in wanted)


def _bytes(found: Network, recipe: Recipe) -> float:
    """Of the weights without adapters: frozen ones as they compute (or in 4 bits), trained ones as they are trained."""
    if recipe.lora is None:
        return found.base * (2 if recipe.trained_dtype == "bfloat16" else 4)
    wide = 4 if recipe.precision == "fp32" else 2
    linear = found.blocks * found.block_linear * (NF4_BYTES if recipe.quantize else wide)
    norms = found.blocks * found.block_rest * (4 if recipe.quantize else wide)
    return linear + norms + (found.embeddings + found.outside + found.unused) * wide + found.top * 4


def _training(found: Network, recipe: Recipe) -> float:
    """As `tiebreak.train.finetune.plan`: two operations a weight forward, two for the input's gradient, two if trained.

    Blocks below the first trained weight need no backward pass; attention scores, a few per cent at these lengths, are
    left out.
    """
    adapters = dict(_adapters(found, recipe))
    lowest = min(adapters, default=0) if recipe.lora is not None else recipe.freeze
    total = 0.0
    for block in range(found.blocks):
        own = adapters.get(block, 0)
        weights = found.block_linear + own
        if block < lowest:
            total += weights
            continue
        trained = own if recipe.lora is not None else weights
        total += weights * (2 if recipe.checkpointing else 1) + weights + trained
    return 2 * total


CAUSAL: Final = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"}
"""Families whose tokens read only those before them."""

_ENCODERS: Final = {"bert", "deberta-v2"}


def _decoder(settings: Mapping[str, Any], recipe: Recipe | None) -> Network:
    family, hidden, inner = settings["model_type"], settings["hidden_size"], settings["intermediate_size"]
    heads = settings["num_attention_heads"]
    each = settings.get("head_dim") or hidden // heads
    queries, keys = heads * each, settings.get("num_key_value_heads", heads) * each
    linear = (
        ("q_proj", hidden, queries), ("k_proj", hidden, keys), ("v_proj", hidden, keys), ("o_proj", queries, hidden),
        ("gate_proj", hidden, inner), ("up_proj", hidden, inner), ("down_proj", inner, hidden),
    )  # fmt: skip
    rest = hidden * (4 if family.startswith("gemma") else 2)
    if family == "qwen2":
        rest += queries + 2 * keys  # biases
    if family in {"qwen3", "gemma3_text"}:
        rest += 2 * each  # norms of queries and keys
    embeddings, head = settings["vocab_size"] * hidden, 0
    if recipe is not None:
        head = _pair_head(hidden, recipe) if recipe.judge == "siamese" else _head(hidden, recipe, bias=False)
    if recipe is not None and recipe.judge == "generative":  # the vocabulary's, which may be the embeddings once more
        head, embeddings = 0, embeddings * (1 if settings.get("tie_word_embeddings") else 2)
    return Network(settings["num_hidden_layers"], linear, rest, embeddings, hidden, 0, head)


def _encoder(settings: Mapping[str, Any], recipe: Recipe | None) -> Network:
    family, hidden, inner = settings["model_type"], settings["hidden_size"], settings["intermediate_size"]
    names = ("query", "key", "value") if family == "bert" else ("query_proj", "key_proj", "value_proj")
    linear = (
        *((name, hidden, hidden) for name in names),
        ("dense", hidden, hidden), ("dense", hidden, inner), ("dense", inner, hidden),
    )  # fmt: skip
    rest = 9 * hidden + inner  # a bias of each layer, two norms with theirs
    embeddings = (settings["vocab_size"] + settings.get("type_vocab_size", 0) + 2) * hidden
    if family == "bert" or settings.get("position_biased_input", True):
        embeddings += settings["max_position_embeddings"] * hidden
    outside = 0
    if settings.get("relative_attention"):
        buckets = settings.get("position_buckets", -1)
        outside += 2 * (buckets if buckets > 0 else settings["max_position_embeddings"]) * hidden
        outside += 2 * hidden if "layer_norm" in settings.get("norm_rel_ebd", "") else 0
    pooler = hidden * hidden + hidden
    blocks = settings["num_hidden_layers"]
    if recipe is None:
        return Network(blocks, linear, rest, embeddings, outside, pooler, 0)
    if recipe.judge == "siamese":  # it pools by itself
        return Network(blocks, linear, rest, embeddings, outside, 0, _pair_head(hidden, recipe), unused=pooler)
    return Network(blocks, linear, rest, embeddings, outside, pooler, _head(hidden, recipe, bias=True))


def _head(hidden: int, recipe: Recipe, *, bias: bool) -> int:
    if recipe.head.kind == "two_layer":
        half = hidden // 2
        return hidden * half + half + 3 * half + 3
    return 3 * hidden + 3 * bias


def _pair_head(hidden: int, recipe: Recipe) -> int:
    width, project = hidden, 0
    if recipe.head.kind == "two_layer":
        width = hidden // 2
        project = hidden * width + width
    return project + width + 3 * width + 1
