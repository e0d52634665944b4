"""Tiny models with random weights, one a family, and a tiny tokenizer: what the tests of fine-tuned judges run on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

FAMILIES = (
    "llama", "gemma2", "gemma3_text", "qwen2", "qwen3", "mistral", "deberta-v2", "bert", "modernbert",
)  # fmt: skip
DECODERS = FAMILIES[:6]
ENCODERS = FAMILIES[6:]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<pad>", "<|im_start|>", "<|im_end|>", "<unk>", "[CLS]", "[SEP]"]


@cache
def _backend() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(["the quick brown fox asks which of the two answers is better " * 20], trainer)
    return str(tokenizer.to_str())


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of some 300 tokens; every text can be written; chat template in the manner of ChatML."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend()), pad_token="<pad>", eos_token="<|im_end|>",
        bos_token="<|im_start|>", unk_token="<unk>", cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    made.chat_template = CHAT_TEMPLATE
    return made


def config(family: str, **changes: Any) -> Any:
    """A configuration of three or four small layers; sliding windows are short enough to matter."""
    size: dict[str, Any] = {
        "vocab_size": 400, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 512, "pad_token_id": 0, "num_labels": 3,
    }  # fmt: skip
    if family in DECODERS:
        size |= {"num_key_value_heads": 2, "head_dim": 16, "bos_token_id": 1, "eos_token_id": 2}
    if family == "gemma2":
        size |= {"sliding_window": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 4}
    if family == "gemma3_text":
        size |= {"sliding_window": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 6}
    if family == "mistral":
        size |= {"sliding_window": 24}
    if family == "deberta-v2":
        size |= {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
                 "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
                 "max_relative_positions": -1, "type_vocab_size": 0, "pooler_hidden_size": 64}  # fmt: skip
    if family == "modernbert":
        size |= {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 4, "sep_token_id": 5,
                 "bos_token_id": 4, "eos_token_id": 5}  # fmt: skip
    return AutoConfig.for_model(family, **(size | changes))


def model(family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    """A sequence classifier with random weights, in evaluation mode. The same seed gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForSequenceClassification.from_config(
            config(family, **changes), dtype=dtype, attn_implementation="eager"
        )
        for parameter in made.parameters():
            if parameter.dim() > 1:  # the usual 0.02 makes logits so small that no difference would show
                torch.nn.init.normal_(parameter, std=0.15)
    return made.eval()


def language_model(
    family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
) -> PreTrainedModel:
    """A causal language model with random weights, as `model` makes a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config(family, **changes), dtype=dtype, attn_implementation="eager")
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    return made.eval()


def save_language_model(directory: Path, family: str = "llama", **changes: Any) -> Path:
    """As `save`, of a language model."""
    language_model(family, **changes).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory


def save(directory: Path, family: str = "llama", **changes: Any) -> Path:
    """A folder as a user has one: config, safetensors, tokenizer."""
    model(family, **changes).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory
