"""What a run will ask of a server, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from tiebreak.judges.generative import reading
from tiebreak.judges.generative.served.backend import ServedBackend, served_by
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.served.store import Account, Store, path_of
from tiebreak.judges.generative.served.writer import ServedWriter
from tiebreak.judges.runtime import Swap

if TYPE_CHECKING:
    from tiebreak.judges.generative.judge import GenerativeJudge
    from tiebreak.judges.generative.served.requests import Request


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked.

    Attributes:
        requests: All that the rows need.
        known: Of these, those that are answered already, in the store.
        prompt_tokens: Of the others, about (to the token for the completions API).
        answer_tokens: That their answers have at most.
        cost: Of that, at most, in the currency of the prices; 0 without prices.
    """

    requests: int
    known: int
    prompt_tokens: int
    answer_tokens: int
    cost: float


def estimate(judge: GenerativeJudge, tables: Iterable[pl.DataFrame]) -> Estimate:
    """What a judge would ask for tables; nothing is sent. With `--swap uncertain`, as if all rows were judged twice.

    Raises:
        UsageError: The judge has no server, or may not send anything to it.
    """
    served = served_by(judge.settings, judge.runtime)
    store = Store(path) if (path := path_of(served)).is_file() else None
    prompts: dict[str, int] = {}
    known, answers = 0, 0
    for table in tables:
        fresh = {request.key: request for request in _requests(judge, table) if request.key not in prompts}
        answered = store.find(fresh) if store is not None else {}
        known += len(answered)
        for key, request in fresh.items():
            prompts[key] = 0 if key in answered else request.prompt_tokens
            answers += 0 if key in answered else request.answer_tokens
    total = sum(prompts.values())
    return Estimate(len(prompts), known, total, answers, price(served, total, answers))


def price(served: Served, prompt_tokens: int, answer_tokens: int) -> float:
    """Of so many tokens, in the currency of the prices."""
    return (prompt_tokens * served.price_prompt + answer_tokens * served.price_answer) / 1e6


def account(served: Served) -> Account:
    """What the store of a served model holds by now; nothing where there is no store yet."""
    path = path_of(served)
    return Store(path).account() if path.is_file() else Account(0, 0, 0, 0)


def _requests(judge: GenerativeJudge, table: pl.DataFrame) -> list[Request]:
    once = Swap.parse(judge.settings.swap).policy == "none"
    if judge.settings.reads == "text":
        renderer, how = reading.renderer_of(judge), judge.settings.reading or reading.Reading()
        orders = renderer.render_both(table)[: 1 if once else 2]
        writer = judge_writer(judge)
        chats = [chat for order in orders for chat in reading.conversations(order, renderer, how)]
        return writer.requests(chats, how.sampling)[0]
    backend = judge.backend
    assert isinstance(backend, ServedBackend)  # noqa: S101 - `served_by` found a server
    orders = judge.renderer.render_both(table)[: 1 if once else 2]
    return [request for order in orders for request in backend.requests(judge.asked(order.sequences), judge.tree)[0]]


def judge_writer(judge: GenerativeJudge) -> ServedWriter:
    """The writer of a judge that reads texts from a server."""
    writer = reading.writer_of(judge)
    assert isinstance(writer, ServedWriter)  # noqa: S101 - `served_by` found a server
    return writer
