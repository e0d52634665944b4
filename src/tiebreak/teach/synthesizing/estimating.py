"""What a plan may take at most: answers, tokens, and of served models the price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tiebreak.teach.synthesizing.authors import Model
from tiebreak.teach.synthesizing.planning import Plan

CHARS: Final = 4
"""Characters of a token, where its tokenizer is not asked: English has about four."""


@dataclass(frozen=True)
class Estimate:
    """Of one model.

    Attributes:
        model: Its name.
        answers: It is to write, in answers of a whole prompt.
        prompt_tokens: That it reads, about, before its own earlier turns.
        answer_tokens: That it writes at most.
        cost: At most, in the money of the prices; None without a price.
    """

    model: str
    answers: int
    prompt_tokens: int
    answer_tokens: int
    cost: float | None


def estimate(plan: Plan, model: Model) -> Estimate:
    """What one model of a plan may take."""
    answers = prompt_tokens = written = 0
    for chunk in plan.chunks:
        if chunk.author.model != model:
            continue
        answers += chunk.answers
        for turns in (plan.prompts.turns[place] for place in chunk.places):
            read = sum(len(plan.system) + sum(map(len, turns[: n + 1])) for n in range(len(turns)))
            prompt_tokens += chunk.count * -(-read // CHARS)
            written += chunk.count * len(turns) * plan.sampling.max_tokens
    prices = model.spec.settings
    cost = None
    if "price_prompt" in prices:
        cost = (prompt_tokens * prices["price_prompt"] + written * prices["price_answer"]) / 1e6
    return Estimate(model.name, answers, prompt_tokens, written, cost)
