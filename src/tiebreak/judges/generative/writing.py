"""Language models that write: the contract of free-text verdicts and of synthesis, whatever runs the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tiebreak.judges.generative.backend import silent

Role = Literal["system", "user", "assistant"]
Conversation = Sequence[tuple[Role, str]]
"""Turns of a chat, the last one a user's. Texts are data: what looks like a special token in one is plain text."""


@dataclass(frozen=True)
class Sampling:
    """How a text is drawn.

    Attributes:
        max_tokens: Of one text at most.
        temperature: 0 takes the likeliest token each time.
        top_p: Nucleus.
        samples: Texts a conversation.
        seed: The text of a conversation depends on this, its index within the samples and its own words alone.
        stop: Texts that end the writing; they are not part of it.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """One text.

    Attributes:
        text: Without special tokens.
        finished: Whether the model ended it, and not the limit of tokens.
        tokens: Written.
    """

    text: str
    finished: bool
    tokens: int


class Writer(Protocol):
    """Writes texts.

    Attributes:
        report: How the last call ran.
    """

    report: dict[str, Any]

    def write(
        self, conversations: Sequence[Conversation], sampling: Sampling, *, advance: Callable[[int], None] = silent
    ) -> list[list[Written]]:
        """The next turn of each conversation: `sampling.samples` texts each, in order.

        Raises:
            ResourceError: It failed for good.
        """
        ...
