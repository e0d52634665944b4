"""Verdicts of a model behind a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from tiebreak.errors import DataError, UsageError
from tiebreak.judges.generative.backend import Masses, silent
from tiebreak.judges.generative.served import requests, tops
from tiebreak.judges.generative.served.asking import Asker
from tiebreak.judges.generative.served.client import Client
from tiebreak.judges.generative.served.faults import Fault
from tiebreak.judges.generative.served.limits import Backoff
from tiebreak.judges.generative.served.messages import Messages, knows_roles
from tiebreak.judges.generative.served.requests import Request
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.served.store import Store
from tiebreak.judges.generative.verdicts import Tree, Verdicts

if TYPE_CHECKING:
    from tiebreak.judges.generative.judge import GenerativeJudge
    from tiebreak.judges.generative.settings import Settings
    from tiebreak.judges.runtime import Runtime
    from tiebreak.render.sequences import Sequences

LONGEST: Final = 16
"""Tokens asked for at most while a chat spells a verdict."""


class ServedBackend:
    """Asks a server for the log-probabilities of verdicts.

    Over the completions API, token ids go in, and vLLM answers with the exact log-probabilities of the tokens of the
    verdicts; other servers list their likeliest tokens. Over the chat API, messages go in and likeliest tokens come
    out. What was not listed is bounded: `Masses.unseen`. Where no verdict was listed there is an error and no guess.

    Args:
        served: The server.
        tokenizer: That rendered the sequences.
        verdicts: The spellings, for the chat API.
        named: Whether the user named the address in this very run.
        store: Where answers are kept; None: in the user's cache.
        backoff: How long to wait between attempts.

    Raises:
        MissingExtraError: openai is not installed.
        UsageError: The address may not be used, or the tokenizer does not suit the API.
    """

    def __init__(
        self, served: Served, tokenizer: Any, verdicts: Verdicts, *, named: bool = False, store: Store | None = None,
        backoff: Backoff | None = None,
    ) -> None:  # fmt: skip
        if (served.api == "chat") != knows_roles(tokenizer):
            other = "token ids" if served.api == "chat" else "chats"
            raise UsageError(
                f"api {served.api}: the tokenizer of this judge is for {other}",
                expected="a judge that was made for this API",
                mend=f"tiebreak wrap served {served.model} --server {served.url} --api {served.api} -o JUDGE",
            )
        self.served = served
        self.report: dict[str, Any] = {}
        self.asker = Asker(served, named=named, store=store, backoff=backoff)
        self._tokenizer = tokenizer
        self._verdicts = verdicts
        self._messages = Messages(tokenizer)

    @classmethod
    def of(cls, settings: Settings, runtime: Runtime, directory: Path, judge: GenerativeJudge) -> Self:
        """The backend for one judge: its own server, or the one that this run names."""
        served = served_by(settings, runtime)
        return cls(served, judge.renderer.tokenizer, settings.verdicts, named=runtime.server is not None)

    def requests(self, sequences: Sequences, tree: Tree) -> tuple[list[Request], list[int]]:
        """What is asked for sequences, one after another, and the sequence that each request is for."""
        if self.served.api == "chat":
            texts = [text for label in ("a", "b", "tie") for text in getattr(self._verdicts, label)]
            longest = min(max(map(len, texts)), LONGEST)
            chats = [requests.chat(self.served, self._messages.of(ids), longest) for ids in sequences]
            return chats, list(range(len(chats)))
        made = [
            requests.completion(self.served, [*ids.tolist(), *node], children)
            for ids in sequences
            for node, children in zip(tree.nodes, tree.children, strict=True)
        ]
        return made, [row for row in range(len(sequences)) for _ in tree.nodes]

    def masses(
        self, sequences: Sequences, tree: Tree, *, pairs: np.ndarray | None = None,
        advance: Callable[[int], None] = silent,
    ) -> Masses:  # fmt: skip
        """Masses of the verdicts after each sequence; see `tiebreak.judges.generative.backend.Backend`.

        Raises:
            ResourceError: Some sequences have no answer. All that have are kept, and are not asked again.
            DataError: The server answered, and in some answers no verdict is listed at all.
        """
        self._messages.disarmed = 0
        asked, rows = self.requests(sequences, tree)
        try:
            if self.served.api == "chat":
                found = tops.of_texts(self.asker.ask(asked, _positions, rows=rows, advance=advance), self._verdicts)
            else:
                listed = self.asker.ask(asked, _listing, rows=rows, advance=advance)
                nodes = len(tree.nodes)
                found = tops.of_tokens([listed[node::nodes] for node in range(nodes)], tree, self._texts(tree))
        finally:
            self.report = self._account()
        self.report["bounded"] = int((found.unseen > 0).any(axis=1).sum())
        self.report["largest_bound"] = float(found.unseen.max(initial=0.0))
        self._refuse_blank(found)
        return found

    def _texts(self, tree: Tree) -> dict[int, str]:
        return {token: self._tokenizer.decode([token]) for children in tree.children for token in children}

    def _account(self) -> dict[str, Any]:
        tally, served = self.asker.tally, self.served
        return {
            "backend": "openai", "server": served.url, "model": served.model, "api": served.api,
            "requests": tally.requests, "reused": tally.reused, "attempts": tally.attempts,
            "prompt_tokens": tally.prompt_tokens, "answer_tokens": tally.answer_tokens, "cost": tally.cost(served),
            "faults": dict(tally.faults), "disarmed": self._messages.disarmed, "seconds": tally.seconds,
            "store": str(self.asker.store.path),
        }  # fmt: skip

    def _refuse_blank(self, found: Masses) -> None:
        blank = tops.blank(found)
        if blank.any():
            raise DataError(
                f"{self.served.url} ({self.served.model}): in {int(blank.sum()):,} of {len(blank):,} answers no "
                f"verdict is among the {self.served.top} likeliest tokens: the model was going to write something else",
                expected="a template after which it writes a verdict, or a judge that reads what it writes",
                mend=f"tiebreak wrap served {self.served.model} --server {self.served.url} --reads text -o JUDGE",
            )


def served_by(settings: Settings, runtime: Runtime) -> Served:
    """The server of a run: the judge's own, at another address if the run names one.

    Raises:
        UsageError: The judge has no server and the run names none, or the one named has not exactly one model.
    """
    if settings.served is not None:
        return settings.served if runtime.server is None else settings.served.model_copy(update={"url": runtime.server})
    if runtime.server is None:
        raise UsageError(
            "this judge has no server of its own", expected="the address of one that has its model", mend="--server URL"
        )
    served = Served(url=runtime.server, model="")
    try:
        offered = Client(served, named=True).models()
    except Fault as fault:
        raise UsageError(
            f"--server {runtime.server}: {fault}", expected="an OpenAI-compatible server, its URL up to /v1"
        ) from fault
    if len(offered) != 1:
        raise UsageError(
            f"--server {runtime.server} has {len(offered)} models: {', '.join(offered)[:300]}",
            expected="a server of this judge's one model, or a judge that says which",
            mend=f"tiebreak wrap served MODEL --server {runtime.server} -o JUDGE",
        )
    return served.model_copy(update={"model": offered[0]})


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Fault("the answer has no choices", "again")
    return choices[0]


def _listing(answer: dict[str, Any]) -> tops.Listing:
    return tops.listing(_choice(answer))


def _positions(answer: dict[str, Any]) -> list[tuple[str, tops.Listing]]:
    return tops.positions(_choice(answer))
