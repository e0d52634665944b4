"""What is asked of a server."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.writing import Sampling

PATHS: Final = {"completions": "/completions", "chat": "/chat/completions"}

EVEN: Final = {"temperature": 1.0, "top_p": 1.0}
"""Log-probabilities as they are: some servers report them after sampling's own changes."""

EVEN_EXTENSIONS: Final = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        served: Whom it goes to.
        body: As it is sent.
        prompt_tokens: About how many tokens it has, for limits and estimates.
        answer_tokens: How many tokens the answer can have.
        part: Tells apart requests that are the same but are to be answered anew each (several samples).
    """

    served: Served
    body: dict[str, Any] = field(repr=False)
    prompt_tokens: int
    answer_tokens: int
    part: int = 0

    @property
    def path(self) -> str:
        """Below the URL of the server."""
        return PATHS[self.served.api]

    @cached_property
    def key(self) -> str:
        """What its answer is kept under: sha256 of whom it goes to and of every byte that is sent."""
        document = [place(self.served), self.path, self.body, self.part]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def place(served: Served) -> list[str]:
    """Whose answers these are: a model at an address, or a revision of it wherever it is."""
    if served.revision is not None:
        return ["revision", served.model, served.revision]
    return ["url", served.model, served.url.rstrip("/")]


def completion(served: Served, prompt: list[int], asked: tuple[int, ...]) -> Request:
    """The next token after a prompt of token ids, and the log-probabilities of certain tokens.

    Args:
        served: The server.
        prompt: Token ids.
        asked: Token ids whose log-probabilities are wanted. vLLM tells exactly these, over the whole vocabulary
            (`logprob_token_ids`); other servers list the likeliest ones.
    """
    body: dict[str, Any] = {
        "model": served.model, "prompt": prompt, "max_tokens": 1, **EVEN, "logprobs": served.top,
    }  # fmt: skip
    if served.extensions:
        body |= EVEN_EXTENSIONS
        body |= {"logprob_token_ids": list(asked), "return_tokens_as_token_ids": True}
    return Request(served, _with_extra(body, served), len(prompt), 1)


def chat(served: Served, messages: list[dict[str, str]], longest: int) -> Request:
    """The beginning of the next turn, with the likeliest alternatives at each of its tokens.

    Args:
        served: The server.
        messages: Turns of the chat.
        longest: Tokens that a verdict can take.
    """
    body = {
        "model": served.model, "messages": messages, "max_tokens": longest, "temperature": 0.0, "top_p": 1.0,
        "logprobs": True, "top_logprobs": served.top,
    }  # fmt: skip
    return Request(served, _with_extra(body, served), tokens_of(messages), longest)


def text(served: Served, messages: list[dict[str, str]], sampling: Sampling, sample: int) -> Request:
    """The next turn, written out.

    Args:
        served: The server.
        messages: Turns of the chat.
        sampling: How it is drawn.
        sample: Which of several texts.
    """
    body: dict[str, Any] = {
        "model": served.model, "messages": messages, "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed + sample,
    }  # fmt: skip
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    served = served.model_copy(update={"api": "chat"})
    return Request(served, _with_extra(body, served), tokens_of(messages), sampling.max_tokens, sample)


def _with_extra(body: dict[str, Any], served: Served) -> dict[str, Any]:
    return {name: value for name, value in {**body, **served.extra}.items() if value is not None}


def tokens_of(messages: list[dict[str, str]]) -> int:
    """About how many tokens a chat has: a token is some four bytes of English, and a turn has some of its own."""
    return sum(len(message["content"].encode()) // 4 + 5 for message in messages)
