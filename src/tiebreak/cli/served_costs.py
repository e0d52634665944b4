"""What `tiebreak predict` says of a judge behind a server: what will be asked, and what it came to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiebreak.cli import console

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.judges.generative.served.settings import Served
    from tiebreak.judges.generative.served.store import Account
    from tiebreak.predict import Plan


def served(plan: Plan) -> Served | None:
    """The server of a run; None for a judge that has none, or that takes its model from the one that was named."""
    from tiebreak import bundle

    if plan.judge is None:
        return None
    manifest = bundle.read(plan.judge)
    if manifest.kind != "generative" or not manifest.settings.get("served"):
        return None
    from tiebreak.judges.generative.served.backend import served_by
    from tiebreak.judges.generative.settings import Settings

    return served_by(Settings.of(manifest), plan.runtime)


def foresee(plan: Plan, tables: Iterable[pl.DataFrame]) -> dict[str, Any]:
    """Say what a run will ask its server for, and give it as JSON has it; nothing for a judge without one."""
    if served(plan) is None:
        return {}
    from dataclasses import asdict

    from tiebreak import judges
    from tiebreak.judges.generative import GenerativeJudge
    from tiebreak.judges.generative.served import costs

    judge = judges.load(plan.judge, plan.runtime)
    assert isinstance(judge, GenerativeJudge)  # noqa: S101 - `served` looked
    found = costs.estimate(judge, tables)
    console.note(
        f"  {found.requests:,} requests, {found.known:,} of them answered before; to be asked: about "
        f"{found.prompt_tokens:,} tokens of prompts, at most {found.answer_tokens:,} of answers"
        + (f", at most {found.cost:,.4g} at the prices of the judge" if found.cost else "")
    )
    return {"server": asdict(found)}


def so_far(plan: Plan) -> Account | None:
    """What was paid for until now, for `settle`."""
    from tiebreak.judges.generative.served import costs

    at = served(plan)
    return None if at is None else costs.account(at)


def settle(plan: Plan, before: Account | None) -> dict[str, Any]:
    """Say what a run came to, by what its store holds more than before; give it as JSON has it.

    All workers of a run are in it, and so are other runs of the same model at the same time.
    """
    at = served(plan)
    if at is None or before is None:
        return {}
    from tiebreak.judges.generative.served import costs

    now = costs.account(at)
    prompt = now.prompt_tokens - before.prompt_tokens
    answer = now.answer_tokens - before.answer_tokens
    cost = costs.price(at, prompt, answer)
    console.note(
        f"  {now.answers - before.answers:,} new answers of {at.model}: {prompt:,} tokens of prompts, {answer:,} of "
        f"answers" + (f", {cost:,.4g} at the prices of the judge" if cost else "")
    )
    return {"server": {
        "new_answers": now.answers - before.answers, "prompt_tokens": prompt, "answer_tokens": answer, "cost": cost,
        "failures": now.failures,
    }}  # fmt: skip
