"""What a bundle says of the server behind which its model lies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Api = Literal["completions", "chat"]


class Served(BaseModel):
    """A model behind an OpenAI-compatible server.

    Attributes:
        url: Up to and including the version, such as http://127.0.0.1:8000/v1.
        model: The name that the server knows it by.
        api: completions: token ids are sent, for servers that take them (vLLM, SGLang, llama.cpp); chat: messages.
        revision: What lies behind the name, in the owner's words. Answers are kept under url and model, or, with a
            revision, under model and revision: then another address of the same model finds them too.
        answers_as: The name that the server gives in its answers where that is another one (a dated snapshot).
        extensions: Whether to send parameters that vLLM has beyond OpenAI's, which make the answers exact; other
            servers pass them over, a few refuse them.
        extra: Further fields of every request; null takes a field away (`max_tokens` for models that want
            `max_completion_tokens`).
        concurrency: Requests under way at once.
        requests_per_minute: At most; None: no limit.
        tokens_per_minute: Of prompts and answers, at most; None: no limit.
        timeout: Seconds that an attempt may take.
        attempts: Of one request in one run, before it is given up for this run.
        top: Likeliest tokens asked for where the server cannot be asked for certain ones.
        price_prompt: Of a million tokens of prompts, in any currency.
        price_answer: Of a million tokens of answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    model: str
    api: Api = "completions"
    revision: str | None = None
    answers_as: str | None = None
    extensions: bool = True
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    timeout: Annotated[float, Field(gt=0)] = 300.0
    attempts: Annotated[int, Field(ge=1)] = 6
    top: Annotated[int, Field(ge=1, le=1000)] = 20
    price_prompt: Annotated[float, Field(ge=0)] = 0.0
    price_answer: Annotated[float, Field(ge=0)] = 0.0
