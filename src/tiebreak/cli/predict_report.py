"""What `tiebreak predict` says before and after its work."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tiebreak.cli import console, served_costs

if TYPE_CHECKING:
    from tiebreak import ingest
    from tiebreak.cli.predict_guard import Fallback
    from tiebreak.cli.predict_source import Source
    from tiebreak.judges.generative.served.store import Account
    from tiebreak.predict import Plan, Run


def foresee(source: Source, plan: Plan, engine: str, judge: str, fallback: Fallback | None, *, as_json: bool) -> None:
    """Read the input and say what there is to do."""
    from tiebreak.predict import scale

    seen = scale.look(source.again().tables(), plan)
    console.note(f"would judge {', '.join(source.files)} with {judge} and write {plan.form} to {plan.output}")
    console.note(
        f"  {seen.rows:,} rows in {seen.chunks:,} chunks of {plan.chunk_rows:,}, {seen.characters:,} characters; "
        f"finished already: {seen.finished:,} chunks ({seen.finished_rows:,} rows)"
    )
    console.note(f"  engine {engine}, workers {plan.workers or 'as the cluster has GPUs or nodes'}")
    if fallback is not None:
        console.note(f"  {fallback.foreseen()}")
    _form(plan)
    asked = served_costs.foresee(plan, source.again().tables()) if "-" not in source.files else {}
    if as_json:
        console.emit_json({
            "dry_run": True, "output": str(plan.output), "format": plan.form, "judge": judge, "engine": engine,
            "workers": plan.workers, "chunk_rows": plan.chunk_rows, **_submission(plan), **asdict(seen), **asked,
        })  # fmt: skip


def tell(
    run: Run, seconds: float, plan: Plan, engine: str, judge: str, fallback: Fallback | None, report: ingest.Report,
    paid: Account | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Say what was done, and to how many rows."""
    for text, count in report.notes.items():
        console.note(f"  {text}: {count:,}")
    if report.rejected:
        console.say(f"{report.rejected:,} rows could not be read; they are in {plan.output}.rejected.jsonl")
    if run.tokens:
        console.note(
            f"  {run.tokens:,} tokens of text, {100 * run.kept / run.tokens:.1f} % of them read; "
            f"truncated: {run.truncated:,} rows ({100 * run.truncated / max(run.rows, 1):.1f} %)"
        )
    _form(plan)
    asked = served_costs.settle(plan, paid)
    taken = f", {run.reused:,} of them taken over from the interrupted run" if run.reused else ""
    console.note(f"wrote {run.rows:,} predictions{taken} to {plan.output} ({plan.form}); judge: {judge}")
    if fallback is not None and run.otherwise:
        console.say(
            f"warning: {run.otherwise:,} of {run.rows:,} rows were answered by {fallback.name}: {run.reason}\n"
            "the finished parts are kept: the same command with --resume and more time goes on from there"
        )
    if as_json:
        console.emit_json({
            **_counts(run), "output": str(plan.output), "format": plan.form, "judge": judge, "engine": engine,
            "workers": plan.workers, "chunk_rows": plan.chunk_rows, "seconds": round(seconds, 3), **_submission(plan),
            **({} if fallback is None else {"otherwise": fallback.name}), **report.as_dict(), **asked,
        })  # fmt: skip


def _counts(run: Run) -> dict[str, Any]:
    counts = asdict(run)
    return counts | {"rows_otherwise": counts.pop("otherwise"), "spans_otherwise": counts.pop("spans")}


def _form(plan: Plan) -> None:
    for text in plan.kaggle.notes() if plan.kaggle is not None else ():
        console.note(f"  {text}")


def _submission(plan: Plan) -> dict[str, Any]:
    return {} if plan.kaggle is None else {"submission": plan.kaggle.model_dump()}
