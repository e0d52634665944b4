"""Rendered token ids -> messages of a chat, for servers that take texts alone.

A server tokenises what it is sent, special tokens and all. So the template is rendered with a tokenizer of our own, in
which marks of the roles are tokens that no text can yield, and texts that look like a special token of any family we
know are taken apart by a space.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np

ROLES: Final = ("system", "user", "assistant")
MARK: Final = "<|tiebreak:{}|>"

TEMPLATE: Final = (
    "{% for message in messages %}<|tiebreak:{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|tiebreak:assistant|>{% endif %}"
)

_SPECIAL: Final = re.compile(
    r"""
    <[|｜][^<>\n]{0,80}?[|｜]>                                 # <|im_start|>, <|eot_id|>, DeepSeek's wide bars
  | </?s>|<(?:bos|eos|pad|unk|mask|sep|cls|EOD|eod|BOS_TOKEN|EOS_TOKEN|EOT)>
  | <(?:start|end)_of_(?:turn|image|text)>                     # Gemma
  | </?(?:think|tool_call|tool_response|tools|reserved_\d+|unused\d+|image)>
  | \[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT|PREFIX|SUFFIX|MIDDLE|IMG|CLS|SEP|PAD|UNK|MASK)\]
  | <</?SYS>>                                                  # Llama 2
  | \[gMASK\]|<sop>|<eop>                                      # GLM
  | <(?:unused|extra_id_|reserved_special_token_)\d+>
    """,
    re.VERBOSE | re.IGNORECASE,
)


def disarmed(text: str) -> tuple[str, int]:
    """A text in which nothing is a special token of the families we know, and how many places were changed.

    A space after the first character takes each apart: people still read what was there.
    """
    return _SPECIAL.subn(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def tokenizer(base: Any | None = None) -> Any:
    """A tokenizer for rendering chats that are sent as texts.

    Args:
        base: A fast tokenizer of transformers whose tokens the budget is to be counted in; None: a token a byte.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if base is None:
        vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        whole = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        whole.decoder = decoders.ByteLevel()
        base = PreTrainedTokenizerFast(tokenizer_object=whole, clean_up_tokenization_spaces=False)
    base.add_tokens([AddedToken(MARK.format(role), special=True, normalized=False) for role in ROLES])
    base.chat_template = TEMPLATE
    return base


class Messages:
    """Turns what `tokenizer` rendered into messages.

    Args:
        tokenizer: As made above.

    Attributes:
        disarmed: Places of texts that looked like special tokens and were taken apart, so far.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._roles = {tokenizer.convert_tokens_to_ids(MARK.format(role)): role for role in ROLES}
        self.disarmed = 0

    def of(self, ids: np.ndarray) -> list[dict[str, str]]:
        """The messages of one rendered comparison. The template's last words stand at the end of the user's."""
        places = [place for place, i in enumerate(ids.tolist()) if i in self._roles]
        messages: list[dict[str, str]] = []
        for start, end in zip(places, [*places[1:], len(ids)], strict=True):
            role = self._roles[int(ids[start])]
            text, count = disarmed(self._tokenizer.decode(ids[start + 1 : end].tolist(), skip_special_tokens=False))
            self.disarmed += count
            if role != "assistant":
                messages.append({"role": role, "content": text})
            elif text:
                messages[-1]["content"] += f"\n\n{text}"
        return messages


def knows_roles(tokenizer: Any) -> bool:
    """Whether a tokenizer was made by `tokenizer`, so that what it renders can be told apart by roles."""
    return MARK.format("user") in tokenizer.get_added_vocab()


def read(folder: Path) -> Any:
    """A tokenizer out of a folder, for `tokenizer`."""
    from tiebreak.judges.base.loading import read_tokenizer

    return read_tokenizer(folder)
