"""`tiebreak kaggle pack`: everything that a code competition without a network needs, as one folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError
from tiebreak.stopping import stoppable

if TYPE_CHECKING:
    from tiebreak.kaggle.packing import Packed, Plan

EPILOG = """
Examples:

    tiebreak kaggle pack --competition llm-classification-finetuning --user NAME -o out

    tiebreak kaggle pack my-judge --competition lmsys-chatbot-arena --user NAME --python 3.12 --hours 9 -o out

    tiebreak kaggle pack my-judge --competition wsdm-cup-multilingual-chatbot-arena --user NAME \\
        --base-model google/gemma-2/transformers/gemma-2-9b-it/2 --max-length 2048 --machine t4x2 -o out

    tiebreak kaggle pack --competition another-one --user NAME --sample sample_submission.csv \\
        --column left_wins=p_a --column right_wins=p_b --column draw=p_tie -o out --dry-run

    tiebreak kaggle pack --config pack.yaml -o out
"""
NAMED: Final = "What it is called"
WHEELS: Final = "Wheels"
FORM: Final = "Other competitions"


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the pack; a pack that is there is replaced.")
    ],
    judge: Annotated[
        Path | None,
        typer.Argument(metavar="[BUNDLE]", help="Judge bundle. [default: the embedded judge]", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Choices in a file, as tiebreak kaggle init writes it; options go before it.")
    ] = None,
    competition: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Last part of its address on Kaggle.", show_default=False)
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Your account, as in its address.", show_default=False)
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            help="cpu, t4x2, or a GPU as Kaggle spells it. [default: cpu, or t4x2 for networks]", show_default=False
        ),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Hours that a run may take. [default: 9]", show_default=False)
    ] = None,
    needs_gpu: Annotated[
        bool | None,
        typer.Option(
            "--needs-gpu/--no-needs-gpu",
            help="Whether the embedded judge does all rows where there is no GPU. [default: over 10^9 parameters]",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(metavar="PLACE", help="Where a base model lies here, if not where it was; repeatable."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="OWNER/MODEL/FRAMEWORK/VARIATION/VERSION", help="A base that Kaggle has: not packed."),
    ] = None,
    public: Annotated[
        bool | None, typer.Option("--public/--private", help="Who sees it. [default: private]", show_default=False)
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the model on Kaggle. [default: Apache 2.0]", show_default=False)
    ] = None,
    base_licence: Annotated[
        str | None, typer.Option(help="Of a base that is packed. [default: that of the model]", show_default=False)
    ] = None,
    notes: Annotated[str | None, typer.Option(help="What is said of this version.")] = None,
    title: Annotated[str | None, typer.Option(rich_help_panel=NAMED, help="Title of the notebook.")] = None,
    slug: Annotated[
        str | None, typer.Option(rich_help_panel=NAMED, help="Slug of the notebook; it is that of the title.")
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(rich_help_panel=FORM, help="Its sample submission, which says what it wants.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=CONTENT",
            rich_help_panel=FORM,
            help="What a column holds: p_a, p_b, p_tie, ... (docs/predict.md); repeatable.",
        ),
    ] = None,
    test_name: Annotated[
        str | None, typer.Option(rich_help_panel=FORM, help="File with the rows. [default: test.csv]")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="OURS=THEIRS",
            rich_help_panel=FORM,
            help="Columns of it under other names, for example prompt=question; repeatable.",
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="3.X",
            rich_help_panel=WHEELS,
            help="Python of Kaggle's image. [default: the running one]",
            show_default=False,
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=WHEELS, help="Newest manylinux tag. [default: manylinux_2_28_x86_64, with vLLM 2_35]"
        ),
    ] = None,
    requirement: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="REQ", rich_help_panel=WHEELS, help="One more, or another version; repeatable."),
    ] = None,
    torch: Annotated[
        str | None,
        typer.Option(rich_help_panel=WHEELS, help="cpu: Kaggle's own does the work there; cuda. [default: cpu]"),
    ] = None,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: Annotated[
        str | None, typer.Option(rich_help_panel=options.TUNED, help="auto, fp32, bf16, fp16 or int8. [default: auto]")
    ] = None,
    swap: options.Swap = None,
    backend: Annotated[
        str | None, typer.Option(rich_help_panel=options.ASKED, help="transformers or vllm. [default: the judge's own]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written and stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write a pack: notebook, wheels, and the judge with its base, ready for a competition without a network."""
    from tiebreak.kaggle import packing
    from tiebreak.kaggle.packing import making, reading
    from tiebreak.kaggle.wheels.target import KAGGLE_PYTHON
    from tiebreak.listening import Listener

    given = {
        "judge": judge, "competition": competition, "user": user, "machine": machine, "hours": hours,
        "needs_gpu": needs_gpu, "bases": tuple(base or ()) or None, "base_model": base_model, "public": public,
        "licence": licence, "base_licence": base_licence, "notes": notes, "title": title, "slug": slug,
        "sample": sample, "columns": _columns(column), "map": options.parse_map(mapping) or None, "test": test_name,
        "python": python, "platform": platform, "requirements": tuple(requirement or ()) or None, "torch": torch,
        "max_length": max_length, "max_tokens": max_tokens, "precision": precision, "swap": swap, "backend": backend,
    }  # fmt: skip
    choices = reading.read(config, {name: value for name, value in given.items() if value is not None})
    making.check_output(output, choices.judge)
    plan = packing.plan(choices)
    for note in plan.notes:
        console.note(f"note: {note}")
    if dry_run:
        _dry_run(plan, output, as_json)
        return
    with stoppable():
        packed = packing.write(plan, output, Listener(console.note, console.progress))
    if as_json:
        console.emit_json({"output": str(output), "seconds": round(packed.seconds, 2), **_document(packed)})
    else:
        _show(packed)
    if told := packed.house.on_kaggle():
        console.note(
            f"note: {told} (--python {KAGGLE_PYTHON} brings the right ones; check then wants that Python here)"
        )
    console.note(f"wrote {output} in {packed.seconds:.1f} s; next: tiebreak kaggle check {output}")


def _columns(given: list[str] | None) -> dict[str, str] | None:
    found = {}
    for pair in given or []:
        name, equals, content = pair.partition("=")
        if not (name and equals and content):
            raise UsageError(f"--column {pair!r}", expected="NAME=CONTENT, for example --column winner_tie=p_tie")
        found[name] = content
    return found or None


def _dry_run(plan: Plan, output: Path, as_json: bool) -> None:
    from tiebreak.kaggle.packing import making

    sizes = making.sizes(plan)
    if as_json:
        console.emit_json({
            "output": str(output), "kernel": plan.kernel, "dataset": plan.dataset, "model": plan.model,
            "instances": plan.instances, "base_model": plan.choices.base_model, "machine_shape": plan.shape,
            "needs_gpu": plan.needs_gpu, "parameters": plan.subject.parameters, "requirements": plan.requirements,
            "python": plan.choices.target.python, "platform": plan.choices.target.platform, "bytes": sizes,
            "submission": plan.competition.submission.model_dump(mode="json"), "notes": plan.notes,
        })  # fmt: skip
        return
    rows = [["kernel", plan.kernel, f"{plan.slug}.ipynb on {plan.shape or 'cpu'}", ""]]
    rows.append(["wheels", plan.dataset, f"for {plan.choices.target}", "when resolved"])
    for part, size in sizes.items():
        rows.append([part, plan.instances[part.partition("/")[2]], "", f"{size / 1e6:.1f}"])
    console.table(f"would be written to {output}", ["part", "on Kaggle", "what", "MB"], rows)
    console.emit("requirements: " + ", ".join(plan.requirements))


def _show(packed: Packed) -> None:
    record = packed.record
    names = {"kernel": record.kernel, "wheels": record.dataset, "model": record.model or ""}
    names |= {f"model/{name}": instance for name, instance in record.instances.items()}
    rows = [
        [part, names[part], f"{len(held.files):,}", f"{held.bytes / 1e6:.1f}"] for part, held in record.parts.items()
    ]
    title = f"{record.judge.name} for {record.settings.competition}"
    console.table(title, ["part", "on Kaggle", "files", "MB"], rows)


def _document(packed: Packed) -> dict[str, Any]:
    record = packed.record
    sizes = {name: part.bytes for name, part in record.parts.items()}
    return {
        **record.model_dump(mode="json", exclude={"parts"}), "bytes": sizes,
        "digests": {name: part.digest for name, part in record.parts.items()},
        "wheels": len(packed.house.wheels), "torch": packed.house.torch,
    }  # fmt: skip
