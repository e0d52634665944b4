"""Texts by a model behind a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from tiebreak.judges.generative.backend import silent
from tiebreak.judges.generative.served import requests
from tiebreak.judges.generative.served.asking import Asker
from tiebreak.judges.generative.served.faults import Fault
from tiebreak.judges.generative.served.limits import Backoff
from tiebreak.judges.generative.served.messages import disarmed
from tiebreak.judges.generative.served.requests import Request
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.served.store import Store
from tiebreak.judges.generative.writing import Conversation, Sampling, Written

if TYPE_CHECKING:
    from tiebreak.judges.runtime import Runtime


class ServedWriter:
    """Writes by the chat API of a server; what was written once is not asked for again.

    Args:
        served: The server; its chat API is used whatever it says of APIs.
        named: Whether the user named the address in this very run.
        store: Where answers are kept; None: in the user's cache.
        backoff: How long to wait between attempts.

    Attributes:
        report: How the last call ran.
    """

    def __init__(
        self, served: Served, *, named: bool = False, store: Store | None = None, backoff: Backoff | None = None
    ) -> None:
        self.served = served.model_copy(update={"api": "chat"})
        self.report: dict[str, Any] = {}
        self.asker = Asker(self.served, named=named, store=store, backoff=backoff)

    @classmethod
    def load(cls, served: Served, runtime: Runtime) -> Self:
        """The writer for a server that the user named; the runtime has nothing to choose."""
        return cls(served, named=True)

    def requests(self, conversations: Sequence[Conversation], sampling: Sampling) -> tuple[list[Request], int]:
        """What is asked, `sampling.samples` requests a conversation, and how many texts were disarmed for it."""
        made, count = [], 0
        for conversation in conversations:
            messages = []
            for role, text in conversation:
                content, changed = disarmed(text)
                messages.append({"role": str(role), "content": content})
                count += changed
            made += [requests.text(self.served, messages, sampling, sample) for sample in range(sampling.samples)]
        return made, count

    def write(
        self, conversations: Sequence[Conversation], sampling: Sampling, *, advance: Callable[[int], None] = silent
    ) -> list[list[Written]]:
        """The next turn of each conversation: `sampling.samples` texts each, in order.

        Raises:
            ResourceError: Some were not answered. All that were are kept, and are not asked for again.
        """
        asked, changed = self.requests(conversations, sampling)
        rows = [row for row in range(len(conversations)) for _ in range(sampling.samples)]
        try:
            texts = self.asker.ask(asked, _written, rows=rows, advance=advance)
        finally:
            tally = self.asker.tally
            self.report = {
                "backend": "openai", "server": self.served.url, "model": self.served.model,
                "requests": tally.requests, "reused": tally.reused, "attempts": tally.attempts,
                "prompt_tokens": tally.prompt_tokens, "answer_tokens": tally.answer_tokens,
                "cost": tally.cost(self.served), "faults": dict(tally.faults), "disarmed": changed,
                "seconds": tally.seconds, "store": str(self.asker.store.path),
            }  # fmt: skip
        each = sampling.samples
        return [texts[start : start + each] for start in range(0, len(texts), each)]


def _written(answer: dict[str, Any]) -> Written:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Fault("the answer has no choices", "again")
    message = choices[0].get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        raise Fault("the answer has no message", "again")
    usage = answer.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    finished = choices[0].get("finish_reason") == "stop"
    return Written(message.get("content") or "", finished, tokens if isinstance(tokens, int) else 0)
